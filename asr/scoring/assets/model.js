// The scored utterances, decoded from the compact form that asr/scoring/page.py writes.
//
// An utterance is [id, reference tokens, audio or 0, system, system, ...]. A system is 0 if all is correct, else
// [operations, tokens of the hypothesis that the reference does not tell, reference tokens if they differ].
// Operations are letters with a count where it is above 1, such as "C5SDC2": C correct, S substituted,
// D deleted, I inserted, and c correct though written otherwise.

const DATA = JSON.parse(document.getElementById("data").textContent);
const UTTERANCES = DATA.utterances;
const NUM = UTTERANCES.length;
const SYSTEMS = DATA.systems;
const FIRST = 3; // position of the first system in an utterance
const KINDS = ["C", "S", "D", "I"];

function tokens(text) {
  return text === "" ? [] : text.split(DATA.separator);
}

function countTokens(text) {
  if (text === "") return 0;
  let count = 1;
  for (let at = text.indexOf(DATA.separator); at >= 0; at = text.indexOf(DATA.separator, at + 1)) count++;
  return count;
}

function eachRun(operations, visit) {
  for (let i = 0; i < operations.length;) {
    const letter = operations[i++];
    let count = 0;
    for (let code; (code = operations.charCodeAt(i)) >= 48 && code <= 57; i++) count = 10 * count + code - 48;
    visit(letter, count || 1);
  }
}

// COUNTS[system][4 * utterance + kind], in the order of KINDS.
const COUNTS = SYSTEMS.map((_, s) => {
  const counts = new Int32Array(4 * NUM);
  for (let u = 0; u < NUM; u++) {
    const entry = UTTERANCES[u][FIRST + s];
    if (entry === 0) counts[4 * u] = countTokens(UTTERANCES[u][1]);
    else eachRun(entry[0], (letter, n) => { counts[4 * u + KINDS.indexOf(letter.toUpperCase())] += n; });
  }
  return counts;
});

const numErrors = (s, u) => COUNTS[s][4 * u + 1] + COUNTS[s][4 * u + 2] + COUNTS[s][4 * u + 3];
const numTokens = (s, u) => COUNTS[s][4 * u] + COUNTS[s][4 * u + 1] + COUNTS[s][4 * u + 2];
const ratio = (errors, length) => length ? errors / length : errors ? Infinity : 0;
const errorRate = (s, u) => ratio(numErrors(s, u), numTokens(s, u));
const isRight = (s, u) => UTTERANCES[u][FIRST + s] === 0 || numErrors(s, u) === 0;

// [[operation, reference token or "", hypothesis token or ""], ...]
function alignment(s, u) {
  const entry = UTTERANCES[u][FIRST + s];
  if (entry === 0) return tokens(UTTERANCES[u][1]).map(token => ["C", token, token]);
  const reference = tokens(entry.length > 2 ? entry[2] : UTTERANCES[u][1]);
  const other = entry[1].split(DATA.separator);
  const cells = [];
  let r = 0, h = 0;
  eachRun(entry[0], (letter, n) => {
    for (; n > 0; n--) {
      if (letter === "I") cells.push(["I", "", other[h++]]);
      else if (letter === "D") cells.push(["D", reference[r++], ""]);
      else if (letter === "C") cells.push(["C", reference[r], reference[r++]]);
      else cells.push([letter.toUpperCase(), reference[r++], other[h++]]);
    }
  });
  return cells;
}

function hypothesis(s, u) {
  const words = alignment(s, u).filter(cell => cell[0] !== "D").map(cell => cell[2]);
  return words.filter(Boolean).join(DATA.unit === "word" ? " " : "");
}

const lazily = make => { let made; return () => made ??= make(); };
const plain = text => DATA.unit === "word" ? text : tokens(text).join("");

// What a search looks at: id, reference and hypotheses, in lower case.
const searchTexts = lazily(() => UTTERANCES.map((utterance, u) => {
  const texts = [utterance[0], plain(utterance[1])];
  SYSTEMS.forEach((_, s) => { if (utterance[FIRST + s] !== 0) texts.push(hypothesis(s, u)); });
  return texts.join("\n").normalize("NFC").toLowerCase();
}));

// By system: "S\treference\thypothesis" -> the utterances that have this error, in order, each once.
const errorIndex = SYSTEMS.map((_, s) => lazily(() => {
  const index = new Map();
  for (let u = 0; u < NUM; u++) {
    if (UTTERANCES[u][FIRST + s] === 0) continue;
    for (const [letter, reference, other] of alignment(s, u)) {
      if (letter === "C") continue;
      const key = `${letter}\t${reference}\t${other}`;
      const found = index.get(key);
      if (found === undefined) index.set(key, [u]);
      else if (found[found.length - 1] !== u) found.push(u);
    }
  }
  return index;
}));

// The tokens of the reference that system a gets right and system b does not.
function soleHits(a, b, u) {
  if (UTTERANCES[u][FIRST + b] === 0) return [];
  const cells = [a, b].map(s => alignment(s, u).filter(cell => cell[0] !== "I"));
  const said = cells.map(list => list.map(cell => cell[1]));
  if (said[0].length === said[1].length && said[0].every((token, i) => token === said[1][i])) {
    return said[0].filter((_, i) => cells[0][i][0] === "C" && cells[1][i][0] !== "C");
  }
  // They took different alternatives of the reference, so positions mean nothing: compare how often.
  const left = new Map();
  for (const cell of cells[1]) if (cell[0] === "C") left.set(cell[1], (left.get(cell[1]) ?? 0) + 1);
  return cells[0].filter(cell => {
    if (cell[0] !== "C") return false;
    const remaining = left.get(cell[1]) ?? 0;
    left.set(cell[1], remaining - 1);
    return remaining <= 0;
  }).map(cell => cell[1]);
}
