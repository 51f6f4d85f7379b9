"use strict";
// Charts: each drawing becomes interactive when it comes into view.
(() => {
  const options = {
    renderer: "svg", ast: true, tooltip: { theme: "custom" },
    actions: { export: { svg: true, png: false }, source: false, compiled: false, editor: false },
    i18n: { CLICK_TO_VIEW_ACTIONS: "Download" },
  };
  const draw = async (data) => {
    const drawing = data.previousElementSibling;
    const spec = JSON.parse(data.textContent);
    const holder = document.createElement("div");
    try {
      await window.vegaEmbed(holder, spec, options);
      drawing.replaceChildren(holder);
      drawing.dataset.interactive = "true";
    } catch (error) {
      console.error(error); // the drawing stays
    }
  };
  const charts = [...document.querySelectorAll("script.chart-data")];
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      draw(entry.target.nextElementSibling);
    }
  }, { rootMargin: "200px" });
  for (const data of charts) observer.observe(data.previousElementSibling);
})();

// Tables: a click on a column's head sorts the rows of each body.
(() => {
  const number = (text) => {
    const value = parseFloat(text.replace(/[,%+▲▼≈\s]/g, ""));
    return Number.isNaN(value) ? null : value;
  };
  const compare = (a, b) => {
    const x = number(a), y = number(b);
    if (x !== null && y !== null) return x - y;
    if (x === null && y === null) return a.localeCompare(b);
    return x === null ? 1 : -1;
  };
  const cellText = (row, column) => (row.cells[column]?.firstChild?.textContent ?? "").trim()
    || (row.cells[column]?.textContent ?? "").trim();
  const sort = (head) => {
    const table = head.closest("table"), column = head.cellIndex;
    const descending = head.getAttribute("aria-sort") === "descending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "ascending" : "descending");
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("grouping"));
      rows.sort((a, b) => (descending ? 1 : -1) * compare(cellText(a, column), cellText(b, column)));
      body.append(...rows);
    }
  };
  for (const head of document.querySelectorAll("table.sortable thead th")) {
    head.tabIndex = 0;
    head.title = "Sort by this column";
    head.addEventListener("click", () => sort(head));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head); }
    });
  }
})();

// Tables wider than their box say so.
(() => {
  const boxes = [...document.querySelectorAll(".scroll")];
  const mark = () => {
    for (const box of boxes) box.classList.toggle("is-cut", box.scrollWidth > box.clientWidth + 2);
  };
  const observer = new ResizeObserver(mark);
  for (const box of boxes) observer.observe(box);
  mark();
})();
