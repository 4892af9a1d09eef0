(() => {
  "use strict";
  const DASH = "\u2013";

  // A cell's size where the page gives one, else the number its text begins with, else its text; a dash is last.
  const sizeOf = (cell) => {
    if (cell.dataset.size !== undefined) return Number(cell.dataset.size);
    const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
    if (text === DASH || text === "") return null;
    const plain = text.replace(/,/g, "").replace(/^[<\u2264] */, "");
    return cell.classList.contains("number") && !Number.isNaN(parseFloat(plain)) ? parseFloat(plain)
      : /^-?[\d.]+(e[-+]?\d+)?$/i.test(plain) ? Number(plain) : cell.textContent;
  };

  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });

  const sort = (table, place) => {
    const heads = [...table.tHead.rows[0].cells];
    const up = heads[place].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[place].setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].filter((row) => !row.classList.contains("base"));
    const sized = rows.map((row) => [sizeOf(row.cells[place]), row]);
    sized.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : up ? compare(a, b) : compare(b, a)));
    body.append(...sized.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(head.firstChild);
      head.prepend(button);
      button.addEventListener("click", () => sort(table, place));
    });
  }

  // Every word must be in the row; rank=8 means that the column rank holds exactly 8.
  const wordsOf = (row, names) =>
    [...row.cells].map((cell, place) => `${names[place]}=${cell.firstChild ? cell.firstChild.textContent.trim() : ""}`.toLowerCase());

  for (const line of document.querySelectorAll(".filter")) {
    const [field, said, table] = [line.querySelector("input"), line.querySelector("output"), line.nextElementSibling.querySelector("table")];
    const names = [...table.tHead.rows[0].cells].map((head) => head.firstChild.textContent.trim());
    let rows = null; // read when they are needed, since a page may have thousands
    line.hidden = false;
    field.addEventListener("input", () => {
      rows ??= [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase(), wordsOf(row, names)]);
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text, words] of rows) {
        row.hidden = !wanted.every((word) => (word.includes("=") ? words.includes(word) : text.includes(word)));
        shown += !row.hidden;
      }
      said.textContent = wanted.length ? `${shown} of ${rows.length} rows` : "";
    });
  }

  // A drawing's own titles come late and not at all on a phone: show them at once, beside the pointer.
  const tip = document.getElementById("tip");
  const show = (event) => {
    const mark = event.target.closest(".plot *");
    const title = mark && mark.querySelector(":scope > title");
    if (title) {
      mark.dataset.tip = title.textContent;
      title.remove();
    }
    tip.hidden = !(mark && mark.dataset.tip);
    if (tip.hidden) return;
    tip.textContent = mark.dataset.tip;
    const left = Math.min(event.pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${event.pageY + 18}px`;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("pointerdown", show);

  // Print what is folded away.
  const folded = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  window.addEventListener("beforeprint", () => { opened = folded(); opened.forEach((one) => { one.open = true; }); });
  window.addEventListener("afterprint", () => { opened.forEach((one) => { one.open = false; }); });
})();
