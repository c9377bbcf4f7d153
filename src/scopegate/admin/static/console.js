// Live updates, and a box that ticks all others. Every page is whole without this file.
"use strict";
document.documentElement.classList.add("scripted");

function count() {
  const said = document.getElementById("picked");
  const boxes = [...document.querySelectorAll('#chosen input[name="job"], #chosen input[name="order"]')];
  const ticked = boxes.filter((box) => box.checked).length;
  if (said) said.textContent = ticked ? `${ticked} selected` : "";
  const every = document.getElementById("every");
  if (every) every.checked = ticked > 0 && ticked === boxes.length;
}

document.addEventListener("change", (event) => {
  if (event.target.id === "every") {
    for (const box of document.querySelectorAll("#chosen tbody input[type=checkbox]")) box.checked = event.target.checked;
  }
  count();
});

// What was ticked, open, scrolled and in focus stays so.
function replace(region, html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  const ticked = new Set([...region.querySelectorAll("input:checked")].map((box) => box.value));
  const open = [...region.querySelectorAll("details")].map((one) => one.open);
  const scrolled = [...region.querySelectorAll(".scroll, pre")].map((one) => [one.scrollLeft, one.scrollTop]);
  const focusable = "a[href], button, input, select, textarea, summary, [tabindex]";
  const focus = [...region.querySelectorAll(focusable)].indexOf(document.activeElement);
  const value = focus >= 0 ? document.activeElement.value : undefined;
  for (const box of fresh.querySelectorAll("input[type=checkbox]")) box.checked = ticked.has(box.value);
  fresh.querySelectorAll("details").forEach((one, n) => { one.open = open[n] ?? false; });
  region.replaceChildren(...fresh.childNodes);
  region.querySelectorAll(".scroll, pre").forEach((one, n) => { if (scrolled[n]) one.scrollTo(...scrolled[n]); });
  if (focus >= 0) {
    const all = [...region.querySelectorAll(focusable)];
    (all.find((one) => value && one.value === value) ?? all[focus])?.focus({ preventScroll: true });
  }
  count();
}

const region = document.querySelector("[data-live]");
if (region && region.dataset.live && window.EventSource) {
  let shown = "";
  const source = new EventSource(region.dataset.live);
  source.addEventListener("message", (event) => {
    if (event.data === shown) return;
    const isFirst = shown === "";
    shown = event.data;
    if (isFirst || !region.contains(document.activeElement) || !document.activeElement.matches("input:not([type=checkbox]), textarea, select")) replace(region, event.data);
    region.dataset.seen = String(Number(region.dataset.seen ?? 0) + 1);
  });
}
count();
