if (DATA.top) {
  showTop();
  showHeadline();
}
makeFilters();
showComparison();
showBreakdowns();
showErrors();
update();
document.body.dataset.ready = "yes";
