// The newest jobs, and the form that makes another: look before, then expand.
import { get, post } from "./api.js";
import { count, el, facts, percent, table, time } from "./dom.js";

const CAMPAIGN = "[A-Za-z0-9][A-Za-z0-9_\\-]{0,63}";
const TYPES = { csv: "text/csv", ndjson: "application/x-ndjson", jsonl: "application/x-ndjson" };
const SHOWN = 25;

export async function showStart(show) {
  const { jobs } = await get(`/jobs?page_size=${SHOWN}`);
  show(expansionForm(), jobList(jobs));
}

function jobList(jobs) {
  const columns = [
    { title: "Campaign", of: (job) => el("a", { href: `#/jobs/${job.id}` }, job.campaign_id ?? job.id) },
    { title: "State", of: (job) => job.state },
    { title: "Made", of: (job) => time(job.created_at) },
    { title: "Seeds matched", number: true, of: (job) => percent(job.seed.match_rate) },
    { title: "Audience", number: true, of: (job) => count(job.audience?.size) },
    { title: "Held-out AUC", number: true, of: (job) => job.quality?.heldout_auc.toFixed(3) },
  ];
  const none = el("p", { class: "dim" }, "No audience has been asked for yet.");
  return el("section", {}, el("h2", {}, "Jobs"), jobs.length ? table(columns, jobs) : none);
}

function expansionForm() {
  const campaign = el("input", { name: "campaign", required: true, pattern: CAMPAIGN, placeholder: "spring-sale" });
  const file = el("input", { type: "file", name: "seeds", accept: ".csv,.ndjson,.jsonl" });
  const pasted = el("textarea", { name: "pasted", rows: 3, placeholder: "or user ids, one a line" });
  const size = el("input", { type: "number", name: "size", min: 1, placeholder: "1 % of the pool" });
  const outcome = el("div", { role: "status" });
  const buttons = [
    el("button", { type: "submit", name: "look" }, "Check the seeds"),
    el("button", { type: "submit", name: "expand", class: "main" }, "Expand"),
  ];

  async function submit(event) {
    event.preventDefault();
    outcome.replaceChildren();
    buttons.forEach((button) => (button.disabled = true));
    try {
      const [body, type] = await seeds(file.files[0], pasted.value);
      const path = `/campaigns/${campaign.value}`;
      const options = size.value ? `?audience_size=${size.value}` : "";
      if (event.submitter.name === "look") outcome.append(preflight(await post(`${path}/preflight${options}`, body, type)));
      else location.hash = `#/jobs/${(await post(`${path}/expand${options}`, body, type)).id}`;
    } catch (error) {
      outcome.append(el("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      buttons.forEach((button) => (button.disabled = false));
    }
  }

  return el(
    "section",
    {},
    el("h2", {}, "New audience"),
    el(
      "form",
      { onsubmit: submit },
      el("label", {}, "Campaign", campaign),
      el("label", {}, "Seeds: CSV with a column user_id, or NDJSON", file, pasted),
      el("label", {}, "Users in the audience", size),
      el("div", { class: "row" }, buttons),
      outcome,
    ),
  );
}

// A file goes as it is; pasted ids become NDJSON, where any character of an id is safe.
async function seeds(file, pasted) {
  if (file) return [file, TYPES[file.name.split(".").pop().toLowerCase()] ?? TYPES.csv];
  const ids = pasted.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!ids.length) throw new Error("Choose a file of seeds, or paste some ids.");
  return [ids.map((id) => JSON.stringify({ user_id: id })).join("\n"), TYPES.ndjson];
}

function preflight(found) {
  const rules = [
    { title: "Rule", of: (rule) => rule.rule },
    { title: "Limit", number: true, of: (rule) => count(rule.limit) },
    { title: "Value", number: true, of: (rule) => count(rule.value) },
    { title: "", of: (rule) => (rule.ok ? "ok" : el("span", { class: "problem" }, "not met")) },
  ];
  return el(
    "div",
    {},
    el("p", {}, found.ok ? "These seeds can be expanded." : el("span", { class: "problem" }, "These seeds cannot be expanded.")),
    facts([
      ["Seeds", count(found.seed.unique)],
      ["Found in the pool", percent(found.seed.match_rate)],
      ["Users allowed by the rules", count(found.pool.eligible)],
      ["Seconds it will take", found.eta_seconds?.toFixed(1)],
    ]),
    table(rules, found.rules),
    found.warnings.map((warning) => el("p", { class: "problem" }, warning.detail)),
  );
}
