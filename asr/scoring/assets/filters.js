// Which utterances are shown, and in which order.

const NO_FILTER = { q: "", show: "all", kind: "", min: "", groups: {}, error: null, token: null };
// `pair` holds the two systems that "only A right" and the like are about.
const STATE = { ...NO_FILTER, groups: {}, sort: "errors", pair: [0, Math.min(1, SYSTEMS.length - 1)] };
const ALL = SYSTEMS.map((_, s) => s);

const SHOW = {
  all: () => true,
  errors: u => ALL.some(s => !isRight(s, u)),
  correct: u => ALL.every(s => isRight(s, u)),
  onlyA: u => isRight(STATE.pair[0], u) && !isRight(STATE.pair[1], u),
  onlyB: u => !isRight(STATE.pair[0], u) && isRight(STATE.pair[1], u),
  both: u => STATE.pair.every(s => isRight(s, u)),
  neither: u => STATE.pair.every(s => !isRight(s, u)),
  betterA: u => numErrors(STATE.pair[0], u) < numErrors(STATE.pair[1], u),
  betterB: u => numErrors(STATE.pair[0], u) > numErrors(STATE.pair[1], u),
  differ: u => String(UTTERANCES[u][FIRST + STATE.pair[0]]) !== String(UTTERANCES[u][FIRST + STATE.pair[1]]),
};

function showChoices() {
  const select = $("#filters").elements.show;
  const [a, b] = STATE.pair.map(s => SYSTEMS[s].name);
  const choices = [["all", "all"], ["errors", "with errors"], ["correct", several ? "correct in every system" : "correct"]];
  if (several) {
    choices.push(["differ", `${a} and ${b} differ`], ["onlyA", `only ${a} right`], ["onlyB", `only ${b} right`], ["betterA", `${a} better`],
      ["betterB", `${b} better`], ["both", `${a} and ${b} right`], ["neither", `neither ${a} nor ${b} right`]);
  }
  select.replaceChildren(...choices.map(([value, name]) => el("option", { value }, name)));
  select.value = STATE.show;
  const sorts = [["errors", "most errors"], ["rate", `highest ${RATE}`]];
  if (several) sorts.push(["gain", `${a} worse than ${b}`], ["loss", `${b} worse than ${a}`]);
  sorts.push(["order", "order of the file"], ["longest", `most ${UNITS}`], ["shortest", `fewest ${UNITS}`], ["id", "id"]);
  if (DATA.durations) sorts.push(["duration", "duration"]);
  $("#filters").elements.sort.replaceChildren(...sorts.map(([value, name]) => el("option", { value }, name)));
  $("#filters").elements.sort.value = STATE.sort;
}

const sum = (of, u) => ALL.reduce((total, s) => total + of(s, u), 0);
const gain = u => numErrors(STATE.pair[0], u) - numErrors(STATE.pair[1], u);
// What to sort by, highest first; equals stay in the order of the file.
const SORT = {
  errors: u => sum(numErrors, u),
  rate: u => Math.max(...ALL.map(s => errorRate(s, u))),
  gain,
  loss: u => -gain(u),
  longest: u => numTokens(0, u),
  shortest: u => -numTokens(0, u),
  duration: u => DATA.durations[u] ?? -1,
};

function chosen() {
  const tests = [SHOW[STATE.show]];
  if (STATE.kind) tests.push(u => ALL.some(s => COUNTS[s][4 * u + Number(STATE.kind)] > 0));
  if (STATE.min !== "") tests.push(u => ALL.some(s => 100 * errorRate(s, u) >= Number(STATE.min)));
  for (const [f, group] of Object.entries(STATE.groups)) tests.push(u => DATA.fields[f].members[u] === group);
  if (STATE.token) {
    const { token, only } = STATE.token;
    tests.push(u => (only ? soleHits(...only, u) : tokens(UTTERANCES[u][1])).includes(token));
  }
  const query = STATE.q.normalize("NFC").toLowerCase().trim();
  if (query) tests.push(u => searchTexts()[u].includes(query));
  let from = null;
  if (STATE.error) {
    const { s, kind, reference, other } = STATE.error;
    from = errorIndex[s]().get(`${kind}\t${reference}\t${other}`) ?? [];
  }
  const found = [];
  for (let i = 0; i < (from ? from.length : NUM); i++) {
    const u = from ? from[i] : i;
    if (tests.every(test => test(u))) found.push(u);
  }
  if (STATE.sort === "id") found.sort((a, b) => compareValues(UTTERANCES[a][0], UTTERANCES[b][0]));
  else if (SORT[STATE.sort]) {
    const keys = new Float64Array(NUM);
    for (const u of found) keys[u] = SORT[STATE.sort](u);
    found.sort((a, b) => keys[a] === keys[b] ? a - b : keys[a] < keys[b] ? 1 : -1);
  }
  return found;
}

function showSummary(found) {
  const rates = SYSTEMS.map((system, s) => {
    let errors = 0, length = 0;
    for (const u of found) { errors += numErrors(s, u); length += numTokens(s, u); }
    return `${several ? `${system.name} ` : ""}${RATE} ${percent(ratio(errors, length))} (${count(errors)} of ${count(length)})`;
  });
  const chips = [];
  const chip = (text, key) => chips.push(" ", el("button", { type: "button", dir: "auto", "aria-label": `Remove the filter ${text}`, onclick: () => { STATE[key] = null; update(); } }, `${text} ×`));
  if (STATE.error) {
    const { s, kind, reference, other } = STATE.error;
    const texts = { S: `${visible(reference)} → ${visible(other)}`, D: `${visible(reference)} deleted`, I: `${visible(other)} inserted` };
    chip(several ? `${SYSTEMS[s].name}: ${texts[kind]}` : texts[kind], "error");
  }
  if (STATE.token) {
    const { token, only } = STATE.token;
    chip(only ? `${visible(token)}: ${SYSTEMS[only[0]].name} right, ${SYSTEMS[only[1]].name} not` : `says ${visible(token)}`, "token");
  }
  $("#list").dataset.shown = found.length;
  if (found.length > LIST.MOST) chips.push(` · the first ${count(LIST.MOST)} are listed`);
  $("#shown").replaceChildren(`${count(found.length)} of ${count(NUM)} utterances · ${rates.join(" · ")}`, ...chips);
}

function update() {
  const found = chosen();
  showSummary(found);
  LIST.set(found);
}

// Start from no filter but the given one, and bring the utterances into view.
function applyFilter(filter) {
  Object.assign(STATE, NO_FILTER, { groups: {} }, filter);
  fillForm();
  update();
  $("#utterances").scrollIntoView();
}

function fillForm() {
  const { elements } = $("#filters");
  for (const name of ["q", "show", "kind", "min", "sort"]) elements[name].value = STATE[name];
  DATA.fields.forEach((_, f) => { elements[`field${f}`].value = STATE.groups[f] ?? ""; });
}

function makeFilters() {
  const form = $("#filters");
  $("#rate-name").textContent = RATE;
  $("#field-filters").append(...DATA.fields.map((field, f) => el("label", {}, field.label, el("select", { name: `field${f}` },
    el("option", { value: "" }, "all"), field.groups.map((name, g) => el("option", { value: g }, name))))));
  showChoices();
  const read = () => {
    const { elements } = form;
    for (const name of ["q", "show", "kind", "min", "sort"]) STATE[name] = elements[name].value;
    STATE.groups = {};
    DATA.fields.forEach((_, f) => { const value = elements[`field${f}`].value; if (value !== "") STATE.groups[f] = Number(value); });
    update();
  };
  let timer;
  form.addEventListener("input", event => {
    clearTimeout(timer);
    timer = setTimeout(read, event.target.name === "q" ? 150 : 0);
  });
  form.addEventListener("submit", event => { event.preventDefault(); read(); });
  form.addEventListener("reset", event => { event.preventDefault(); applyFilter({}); });
  $("#legend").append("Colours: ", el("i", { class: "S" }, "substituted"), " ", el("i", { class: "D" }, "deleted"), " ", el("i", { class: "I" }, "inserted"));
}
