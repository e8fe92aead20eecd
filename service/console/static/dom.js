// Elements from plain values: text is always text, whatever it looks like.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

export const el = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);

const svg = (tag, properties = {}, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

export const facts = (pairs) =>
  el("dl", {}, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value ?? "–"))));

export function table(columns, rows) {
  const cell = (tag, column, content) => el(tag, { class: column.number ? "number" : null }, content ?? "–");
  return el(
    "table",
    {},
    el("thead", {}, el("tr", {}, columns.map((column) => cell("th", column, column.title)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map((column) => cell("td", column, column.of(row)))))),
  );
}

export const count = (number) => (number == null ? "–" : number.toLocaleString("en"));
export const percent = (share) => (share == null ? "–" : `${(100 * share).toFixed(1)} %`);
export const time = (text) => (text ? new Date(text).toLocaleString() : "–");

// Which share of the hidden seeds an audience of each size holds, beside what chance would give.
export function liftCurve(points) {
  const [width, height, left, bottom] = [480, 220, 40, 30];
  const most = Math.max(...points.map((point) => point.fraction));
  const x = (fraction) => left + (fraction / most) * (width - left - 10);
  const y = (share) => height - bottom - share * (height - bottom - 10);
  const curve = [{ fraction: 0, recall: 0 }, ...points].map((point) => `${x(point.fraction)},${y(point.recall)}`);
  const about = ({ size, recall, lift }) =>
    `${count(size)} users hold ${percent(recall)} of the hidden seeds` + (lift == null ? "" : `, ${lift.toFixed(1)} times chance`);
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Share of hidden seeds by audience size" },
    svg("line", { class: "axis", x1: left, y1: y(0), x2: width, y2: y(0) }),
    svg("line", { class: "axis", x1: left, y1: y(0), x2: left, y2: 0 }),
    [0, 0.5, 1].map((share) => svg("text", { x: 4, y: y(share) + 4 }, percent(share).replace(".0", ""))),
    points.map((point) => svg("text", { x: x(point.fraction) - 8, y: height - 10 }, `${+(100 * point.fraction).toPrecision(2)}%`)),
    svg("polyline", { class: "chance", points: `${x(0)},${y(0)} ${x(most)},${y(most)}` }),
    svg("polyline", { class: "curve", points: curve.join(" ") }),
    points.map((point) => svg("circle", { class: "dot", cx: x(point.fraction), cy: y(point.recall), r: 4 }, svg("title", {}, about(point)))),
  );
}
