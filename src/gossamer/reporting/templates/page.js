const narrow = window.matchMedia("(max-width: 720px)").matches;
// A chart takes the width of its place, which a closed element does not have: open all, draw, close.
const folded = [...document.querySelectorAll("details:not([open])")];
for (const part of folded) part.open = true;
const drawn = [];
for (const place of document.querySelectorAll(".chart")) {
  const chart = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  chart.config.legend.columns = narrow ? 1 : chart.config.legend.columns;
  drawn.push(vegaEmbed(place, chart, {
    renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: place.dataset.chart,
  }));
}
Promise.allSettled(drawn).then(() => {
  for (const part of folded) {
    part.open = false;
    part.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")));
  }
});
const closed = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("main details:not(.chart details, [open])")) {
    part.open = true;
    closed.push(part);
  }
});
addEventListener("afterprint", () => {
  for (const part of closed.splice(0)) part.open = false;
});
