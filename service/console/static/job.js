// One job: how far it is, how good its audience is, who is in it, and what sets these people apart.
import { download, get, post } from "./api.js";
import { count, el, facts, liftCurve, percent, table, time } from "./dom.js";

const PAGE = 50;
const INSIGHTS = 12;
const FORMATS = ["csv", "ndjson", "parquet", "arrow"];

export async function showJob(show, id, signal) {
  let job = await get(`/jobs/${id}`);
  show(summary(job));
  while (!job.done) {
    job = await get(`/jobs/${id}`, { Prefer: "wait=1" });
    if (signal.aborted) return;
    show(summary(job));
  }
  if (!job.audience) return;
  const insights = job.campaign_id && (await get(`/campaigns/${job.campaign_id}/insights`).catch(() => null));
  if (signal.aborted) return;
  show(summary(job), quality(job.quality), insights && telling(insights.insights), await audience(job));
}

function summary(job) {
  const cancel = async (event) => {
    event.target.disabled = true;
    await post(job.links.cancel, "{}").catch(() => {});
  };
  return el(
    "section",
    {},
    el("h2", {}, job.campaign_id ?? job.id),
    facts([
      ["State", job.stage ? `${job.state}: ${job.stage}` : job.state],
      ["Made", time(job.created_at)],
      ["Seeds matched", percent(job.seed.match_rate)],
      ["Users allowed by the rules", count(job.pool?.eligible)],
      ["Audience", count(job.audience?.size)],
      ["Model", job.model?.version],
    ]),
    !job.done && el("progress", { max: 1, value: job.progress.fraction }),
    !job.done && el("p", {}, el("button", { onclick: cancel }, "Cancel")),
    job.error && el("p", { class: "problem", role: "alert" }, job.error.detail),
    job.warnings.map((warning) => el("p", { class: "problem" }, warning.detail)),
  );
}

function quality(found) {
  if (!found) return "";
  const [low, high] = found.heldout_auc_interval;
  return el(
    "section",
    {},
    el("h2", {}, "Quality"),
    el("p", {}, found.verdict),
    facts([
      ["Held-out AUC", `${found.heldout_auc.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`],
      ["Seeds hidden from the adaptation", count(found.seeds_held_out)],
    ]),
    found.lift_curve.length > 0 && liftCurve(found.lift_curve),
  );
}

function telling(insights) {
  const columns = [
    { title: "Feature", of: (row) => row.feature },
    { title: "Value", of: (row) => row.value },
    { title: "In the audience", number: true, of: (row) => percent(row.audience_share) },
    { title: "Among the seeds", number: true, of: (row) => percent(row.seed_share) },
    { title: "In the pool", number: true, of: (row) => percent(row.pool_share) },
    { title: "Lift", number: true, of: (row) => row.lift?.toFixed(1) },
  ];
  return el("section", {}, el("h2", {}, "What sets them apart"), table(columns, insights.slice(0, INSIGHTS)));
}

async function audience(job) {
  const columns = [
    { title: "Rank", number: true, of: (user) => count(user.rank) },
    { title: "User", of: (user) => user.user_id },
    { title: "Score", number: true, of: (user) => user.score.toFixed(6) },
  ];
  const rows = el("div", {});
  const tokens = [""];
  const back = el("button", { onclick: () => turn(-1) }, "Previous");
  const on = el("button", { onclick: () => turn(1) }, "Next");
  let page = 0;

  async function read() {
    const found = await get(`${job.audience.href}?page_size=${PAGE}&page_token=${tokens[page]}`);
    tokens[page + 1] = found.next_page_token;
    rows.replaceChildren(table(columns, found.users));
    back.disabled = page === 0;
    on.disabled = !found.next_page_token;
  }

  const turn = (step) => {
    page += step;
    return read();
  };
  const save = (format) => () => download(`${job.audience.href}/export?format=${format}`, `${job.campaign_id}.${format}`);
  await read();
  return el(
    "section",
    {},
    el("h2", {}, "Audience"),
    rows,
    el("p", { class: "row" }, back, on, el("span", { class: "dim" }, "Export:"), FORMATS.map((format) => el("button", { onclick: save(format) }, format))),
  );
}
