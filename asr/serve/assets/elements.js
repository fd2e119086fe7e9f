// Small makers of text and elements. What was recognised enters the page as text nodes, never as markup.

const $ = selector => document.querySelector(selector);

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SERVER = JSON.parse($("#data").textContent);

// 65.3 -> "1:05"
function clock(seconds) {
  const whole = Math.floor(seconds), minutes = Math.floor(whole / 60), rest = String(whole % 60).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

// What the page is doing: idle, uploading, transcribing, listening, finishing, done or error.
function setState(state, message, share = null) {
  document.body.dataset.state = state;
  $("#status").textContent = message;
  const busy = ["uploading", "transcribing", "listening", "finishing"].includes(state);
  const listening = state === "listening";
  $("#progress").hidden = !busy || listening;
  if (share === null) $("#progress").removeAttribute("value");
  else $("#progress").value = share;
  $("#file").disabled = busy;
  $("#file").parentElement.classList.toggle("disabled", busy);
  $("#speak").disabled = busy && !listening;
  $("#speak-text").textContent = listening ? "Stop" : "Speak";
  $("#cancel").hidden = !busy || listening;
  $("#downloads").hidden = busy;
}

const busy = () => !["idle", "done", "error"].includes(document.body.dataset.state);
