"use strict";

/** Sort the rows of a table by a column; the same column again turns the order. */
function sortBy(header) {
  const table = header.closest("table");
  const place = Array.from(header.parentNode.children).indexOf(header);
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const value = (row) => row.cells[place].dataset.value;
  const compare = (a, b) => {
    const left = value(a), right = value(b);
    if (left === "" || right === "") return (left === "") - (right === "");
    const order = Number.isNaN(Number(left)) || Number.isNaN(Number(right))
      ? left.localeCompare(right) : Number(left) - Number(right);
    return up ? order : -order;
  };
  rows.sort(compare).forEach((row) => body.appendChild(row));
}

/** Show the slice that a case's slider stands at, in all of its pictures. */
function showSlice(slider) {
  const panel = slider.closest("details");
  const count = Number(slider.max) + 1;
  const step = count > 1 ? 100 * Number(slider.value) / (count - 1) : 0;
  panel.style.setProperty("--place", step + "%");
  const shown = panel.dataset.slices.split(" ")[Number(slider.value)];
  panel.querySelector("output").textContent = shown;
  slider.setAttribute("aria-valuetext", "slice " + shown);
}

/** Open the case that the address points to. */
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}

document.querySelectorAll("th button").forEach((button) => {
  button.addEventListener("click", () => sortBy(button.parentNode));
});
document.querySelectorAll(".slider input").forEach((slider) => {
  slider.addEventListener("input", () => showSlice(slider));
  showSlice(slider);
});
addEventListener("hashchange", openTarget);
openTarget();
