// What stands above the utterances: the numbers, the comparison, the breakdowns and the frequent errors.

const several = SYSTEMS.length > 1;

function showTop() {
  $("h1").textContent = DATA.title;
  const facts = [`Reference: ${DATA.reference}`];
  if (!several) facts.push(`Hypothesis: ${SYSTEMS[0].path}`);
  facts.push(`Normalisation: ${DATA.normalization.length ? DATA.normalization.join(", ") : "none"}`);
  facts.push(DATA.align === "sclite" ? "Alignment: sclite (costs 4, 3, 3)" : "Alignment: fewest errors");
  if (DATA.alternatives) facts.push("Alternatives: the best of each");
  if (DATA.optional_words) facts.push("Words in parentheses: optional");
  $("#about").textContent = facts.join(" · ");
  for (const { name, remarks } of SYSTEMS) {
    for (const remark of remarks) $("#top").append(el("p", { class: "note" }, several ? `${name}: ${remark}` : remark));
  }
}

function card(name, value, notes = [], main = false) {
  return el("div", { class: main ? "card main" : "card" }, el("span", {}, name), el("b", {}, value), notes.map(note => el("span", {}, note)));
}

function showHeadline() {
  const place = $("#headline");
  if (!several) {
    const { rates, totals } = SYSTEMS[0];
    const other = DATA.unit === "word" ? ["Character error rate", rates.cer] : ["Word error rate", rates.wer];
    place.append(el("div", { class: "cards" },
      card(DATA.unit === "word" ? "Word error rate (WER)" : "Character error rate (CER)", percent(rates[DATA.unit === "word" ? "wer" : "cer"]),
        [`95% interval ${interval(SYSTEMS[0].interval)}, drawn by ${DATA.interval_by}`,
          `${count(NUM)} utterances, ${count(totals[0] + totals[1] + totals[2])} ${UNITS}`], true),
      card("Substitutions", count(totals[1])), card("Deletions", count(totals[2])), card("Insertions", count(totals[3])), card("Correct", count(totals[0])),
      card(other[0], percent(other[1])), card("Sentence error rate", percent(rates.ser)), card("Match error rate", percent(rates.mer)),
      card(DATA.unit === "word" ? "Word information lost" : "Character information lost", percent(rates.wil))));
    return;
  }
  const headline = system => system.rates[DATA.unit === "word" ? "wer" : "cer"];
  const lowest = Math.min(...SYSTEMS.map(system => headline(system) ?? Infinity));
  const columns = [
    { name: "system", text: true, show: s => s.name, value: s => s.name },
    { name: RATE, show: s => percent(headline(s)), value: headline, best: s => headline(s) === lowest },
    { name: "95% interval", show: s => interval(s.interval), value: s => s.interval[0] },
    { name: "sub", show: s => count(s.totals[1]), value: s => s.totals[1] },
    { name: "del", show: s => count(s.totals[2]), value: s => s.totals[2] },
    { name: "ins", show: s => count(s.totals[3]), value: s => s.totals[3] },
    { name: DATA.unit === "word" ? "CER" : "WER", show: s => percent(s.rates[DATA.unit === "word" ? "cer" : "wer"]), value: s => s.rates.cer },
    { name: "SER", show: s => percent(s.rates.ser), value: s => s.rates.ser },
    { name: UNITS, show: s => count(s.totals[0] + s.totals[1] + s.totals[2]), value: s => s.totals[0] + s.totals[1] + s.totals[2] },
  ];
  place.append(sortable(columns, SYSTEMS), el("p", { class: "note" }, `${count(NUM)} utterances. Intervals drawn by ${DATA.interval_by}.`));
}

// Two systems against each other: the tests, who is right where, and the words that one alone gets right.
function showComparison() {
  if (!several) return;
  const place = $("#comparison");
  place.hidden = false;
  const choose = index => el("select", { "aria-label": index ? "second system" : "first system", onchange: draw },
    SYSTEMS.map((system, s) => el("option", { value: s, selected: s === index }, system.name)));
  const selects = [choose(0), choose(1)];
  const body = el("div");
  place.append(el("h2", {}, "What each gets right that the other does not"));
  if (SYSTEMS.length > 2) place.append(el("p", {}, selects[0], " and ", selects[1]));
  place.append(body);
  draw();

  function draw() {
    const [a, b] = selects.map(select => Number(select.value));
    STATE.pair = [a, b];
    body.replaceChildren();
    if (a === b) return body.append(el("p", { class: "note" }, "Choose two different systems."));
    const flipped = a > b;
    const found = DATA.comparisons.find(c => c.a === Math.min(a, b) && c.b === Math.max(a, b));
    const words = flipped ? [found.words_b, found.words_a] : [found.words_a, found.words_b];
    const names = [SYSTEMS[a].name, SYSTEMS[b].name];
    const sentences = [0, 0, 0, 0];
    for (let u = 0; u < NUM; u++) sentences[(isRight(a, u) ? 0 : 2) + (isRight(b, u) ? 0 : 1)]++;
    body.append(el("p", { class: "verdict" }, found.sentence));
    if (SYSTEMS.length > 2) body.append(el("p", { class: "note" }, "Each pair is tested by itself: with many pairs some differ by chance."));
    const link = (show, number) => el("button", { type: "button", class: "link", onclick: () => applyFilter({ show }) }, count(number));
    body.append(el("div", { class: "tables" },
      el("div", {}, el("h3", {}, "Utterances"), el("div", { class: "scroll" }, el("table", {}, el("tbody", {},
        [["both right", "both", sentences[0]], [`only ${names[0]} right`, "onlyA", sentences[1]],
          [`only ${names[1]} right`, "onlyB", sentences[2]], ["neither right", "neither", sentences[3]]]
          .map(([name, show, number]) => el("tr", {}, el("td", { dir: "auto" }, name), el("td", {}, link(show, number)))))))),
      names.map((name, i) => {
        const total = words[i].total;
        const columns = [
          { name: "reference", text: true, show: row => visible(row[0]), value: row => row[0] },
          { name: "times", show: row => count(row[1]), value: row => row[1] },
        ];
        return el("div", {}, el("h3", { dir: "auto" }, `${count(total)} ${UNITS} that only ${name} gets right`),
          words[i].most.length ? sortable(columns, words[i].most, { pick: row => applyFilter({ token: { token: row[0], only: i ? [b, a] : [a, b] } }) }) : null);
      })));
    showChoices();
  }
}

function showBreakdowns() {
  if (!DATA.fields.length && !DATA.unseen) return;
  const place = $("#breakdowns");
  place.hidden = false;
  const grid = el("div", { class: "tables broad" });
  place.append(el("h2", {}, "Where it fails"), grid);
  DATA.fields.forEach((field, f) => {
    const rows = field.groups.map((name, g) => ({ name, g, size: field.sizes[g], rows: field.counts.map(counts => counts[g]) }));
    const rate = (row, s) => ratio(row.rows[s][1] + row.rows[s][2] + row.rows[s][3], row.rows[s][0] + row.rows[s][1] + row.rows[s][2]);
    const highest = Math.min(1, Math.max(...rows.map(row => rate(row, 0))));
    const columns = [
      { name: field.label, text: true, show: row => row.name, value: row => field.ordered ? row.g : row.name },
      ...SYSTEMS.map((system, s) => ({
        name: several ? system.name : RATE, value: row => rate(row, s),
        show: row => el("span", {}, percent(rate(row, s)), several ? null : meter(rate(row, s), highest)),
        best: row => several && SYSTEMS.every((_, t) => t === s || rate(row, s) < rate(row, t)),
      })),
      { name: "utterances", show: row => count(row.size), value: row => row.size },
      { name: UNITS, show: row => count(row.rows[0][0] + row.rows[0][1] + row.rows[0][2]), value: row => row.rows[0][0] + row.rows[0][1] + row.rows[0][2] },
      ...(several ? [] : ["sub", "del", "ins"].map((name, k) => ({ name, show: row => count(row.rows[0][k + 1]), value: row => row.rows[0][k + 1] }))),
    ];
    grid.append(el("div", {}, el("h3", { dir: "auto" }, `By ${field.label}`),
      sortable(columns, rows, { pick: row => applyFilter({ groups: { [f]: row.g } }) })));
  });
  if (!DATA.unseen) return;
  SYSTEMS.forEach((system, s) => {
    const { totals, most } = DATA.unseen[s];
    const columns = [
      { name: "unseen word", text: true, show: row => row[0], value: row => row[0] },
      { name: "times", show: row => count(row[1]), value: row => row[1] },
      { name: "correct", show: row => count(row[2]), value: row => row[2] },
    ];
    const note = `${count(totals.words)} of ${count(totals.all)} reference words (${percent(ratio(totals.words, totals.all))}) are not in the vocabulary; ` +
      `${percent(ratio(totals.errors, totals.words))} of them were missed` +
      (totals.words < totals.all ? `, against ${percent(ratio(totals.seen_errors, totals.all - totals.words))} of the others.` : ".");
    grid.append(el("div", {}, el("h3", { dir: "auto" }, several ? `Out of vocabulary: ${system.name}` : "Out of vocabulary"), el("p", { class: "note" }, note),
      most.length ? sortable(columns, most, { pick: row => applyFilter({ token: { token: row[0], only: null } }) }) : null));
  });
}

function showErrors() {
  const place = $("#errors");
  const grid = el("div", { class: "tables" });
  const draw = s => grid.replaceChildren(...[
    ["Substitutions", "S", ["said", "recognised"]], ["Deletions", "D", ["said"]], ["Insertions", "I", ["recognised"]],
  ].map(([title, kind, names]) => {
    const { most, distinct } = SYSTEMS[s].errors[kind];
    const columns = [
      ...names.map((name, i) => ({ name, text: true, show: row => visible(row[i]), value: row => row[i] })),
      { name: "times", show: row => count(row[names.length]), value: row => row[names.length] },
    ];
    const pick = row => applyFilter({ error: { s, kind, reference: kind === "I" ? "" : row[0], other: kind === "S" ? row[1] : kind === "I" ? row[0] : "" } });
    const note = most.length < distinct ? `the ${count(most.length)} most frequent of ${count(distinct)}` : null;
    return el("div", {}, el("h3", {}, title, note ? el("span", { class: "note" }, ` – ${note}`) : null),
      most.length ? sortable(columns, most, { pick }) : el("p", { class: "note" }, "none"));
  }));
  place.append(el("h2", {}, "Most frequent errors"));
  if (several) {
    place.append(el("p", {}, el("label", {}, "of ", el("select", { onchange: event => draw(Number(event.target.value)) },
      SYSTEMS.map((system, s) => el("option", { value: s }, system.name))))));
  }
  place.append(grid);
  draw(0);
}
