// Small makers of text and elements. All data enters the page as text nodes, so none of it can become markup.

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined));
  return element;
}

const $ = selector => document.querySelector(selector);
const whole = new Intl.NumberFormat("en");
const count = number => whole.format(number);
const percent = rate => Number.isFinite(rate) ? `${(100 * rate).toFixed(2)}%` : "infinite";
const interval = bounds => bounds[0] === null ? "no interval" : `${percent(bounds[0])} to ${percent(bounds[1])}`;
const seconds = value => `${value.toFixed(value < 10 ? 2 : 1)} s`;
const visible = token => token === " " ? "␣" : token;
const RATE = DATA.unit === "word" ? "WER" : "CER";
const UNITS = DATA.unit === "word" ? "words" : "characters";

// A table whose columns sort on a click. A column is {name, text: is it text, show: row -> node or string,
// value: row -> what it sorts by}; `pick` is called with a row that was chosen.
function sortable(columns, rows, { pick = null, chosen = () => false } = {}) {
  const body = el("tbody");
  let order = [...rows];
  const fill = () => body.replaceChildren(...order.map(row => {
    const cells = columns.map((column, c) => {
      const shown = column.show(row);
      const content = pick && c === 0 ? el("button", { type: "button", class: "link", dir: "auto", onclick: () => pick(row) }, shown) : shown;
      return el("td", { class: [column.text && "text", column.best?.(row) && "best"].filter(Boolean).join(" ") || null, dir: column.text ? "auto" : null }, content);
    });
    return el("tr", { class: chosen(row) ? "chosen" : null }, cells);
  }));
  const heads = columns.map(column => {
    const head = el("th", { scope: "col", class: column.text ? "text" : null });
    const sort = () => {
      const descending = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !column.text;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sign = descending ? -1 : 1;
      order.sort((a, b) => sign * compareValues(column.value(a), column.value(b)));
      fill();
    };
    head.append(el("button", { type: "button", onclick: sort }, column.name));
    return head;
  });
  fill();
  const table = el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body));
  table.refresh = fill;
  return table;
}

const collator = new Intl.Collator(undefined, { numeric: true });

function compareValues(a, b) {
  if (typeof a === "string") return collator.compare(a, b);
  return (a ?? -1) === (b ?? -1) ? 0 : (a ?? -1) < (b ?? -1) ? -1 : 1;
}

function meter(rate, highest) {
  const bar = el("i");
  bar.style.width = `${highest > 0 ? Math.min(100, 100 * Math.min(rate ?? 0, highest) / highest) : 0}%`;
  return el("span", { class: "meter", "aria-hidden": "true" }, bar);
}
