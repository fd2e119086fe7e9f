// Ways in: the file button, and files dropped anywhere on the page.

function takeFiles(files) {
  if (busy() || !files.length) return;
  UPLOAD.send(files[0]);
  if (files.length > 1) $("#status").textContent += ` One file at a time: the first of ${files.length} was taken.`;
}

$("#token-field").hidden = !SERVER.needsToken;
$("#token-field").addEventListener("submit", event => event.preventDefault());
$("#file").addEventListener("change", event => {
  takeFiles([...event.target.files]);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, event => {
    event.preventDefault();
    $("#drop").classList.add("over");
  });
}
addEventListener("dragleave", event => event.relatedTarget || $("#drop").classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  $("#drop").classList.remove("over");
  takeFiles([...event.dataTransfer.files]);
});
document.body.dataset.ready = "yes";
