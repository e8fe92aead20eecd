// Which view the address asks for, and who is signed in.
import { get, key, Problem } from "./api.js";
import { count, el, time } from "./dom.js";
import { showJob } from "./job.js";
import { showStart } from "./start.js";

const view = document.getElementById("view");
const leave = document.getElementById("leave");
let left = () => {};

function show(...sections) {
  view.replaceChildren(...sections);
}

function signIn(problem) {
  const field = el("input", { type: "password", name: "key", required: true, autocomplete: "off" });
  const submit = (event) => {
    event.preventDefault();
    key.set(field.value.trim());
    route();
  };
  show(
    el(
      "section",
      {},
      el("h2", {}, "Sign in"),
      el(
        "form",
        { onsubmit: submit },
        el("label", {}, "API key", field),
        problem && el("p", { class: "problem", role: "alert" }, problem),
        el("div", {}, el("button", { class: "main" }, "Sign in")),
      ),
    ),
  );
  field.focus();
}

async function tellServed() {
  const [pool, model] = await Promise.all([get("/pool"), get("/models/current")].map((asked) => asked.catch(() => null)));
  const served = [
    pool && `${count(pool.size)} users as of ${time(pool.as_of)}`,
    model?.version && `model ${model.version}`,
  ];
  document.getElementById("served").textContent = served.filter(Boolean).join(" · ") || "Nothing is served yet.";
}

async function route() {
  left();
  leave.hidden = !key.get();
  if (!key.get()) return signIn();
  const controller = new AbortController();
  left = () => controller.abort();
  try {
    const [, job] = location.hash.match(/^#\/jobs\/(\w+)$/) ?? [];
    await (job ? showJob(show, job, controller.signal) : showStart(show));
    await tellServed();
  } catch (error) {
    if (controller.signal.aborted) return;
    if (error instanceof Problem && error.status === 401) {
      key.drop();
      leave.hidden = true;
      return signIn(error.message);
    }
    show(el("section", {}, el("p", { class: "problem", role: "alert" }, error.message)));
  }
}

leave.addEventListener("click", () => {
  key.drop();
  document.getElementById("served").textContent = "";
  location.hash = "";
  route();
});
addEventListener("hashchange", route);
route();
