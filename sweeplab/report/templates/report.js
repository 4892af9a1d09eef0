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
    const tools = line.parentElement;
    const [field, said, table] = [line.querySelector("input"), line.querySelector("output"), tools.nextElementSibling.querySelector("table")];
    const all = tools.querySelector(".rows");
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
      if (all && wanted.length) all.checked = true;
      said.textContent = wanted.length ? `${shown} of ${rows.length} rows` : "";
    });
  }

  const addButton = (place, text, label, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    place.append(button);
  };

  const download = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const nameOf = (text) => `${document.querySelector("h1").textContent} ${text}`.toLowerCase().replace(/[^a-z0-9]+/g, "_");

  // A table as CSV: numbers bare, and the spread, the interval's ends and other small print in columns of their own.
  const NUMBER = /^[<\u2264]? ?(-?[\d,]*\.?\d+(?:e[-+]?\d+)?)( \u00b1 ([\d.,e+-]+))?$/i;
  const bare = (text) => text.replace(/,/g, "");
  const splitCell = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("small, .badge").forEach((one) => one.remove());
    const text = copy.textContent.trim();
    const small = [...cell.querySelectorAll("small")].map((one) => one.textContent).join(", ");
    const ends = small.match(/\[([^,\]]*), ([^\]]*)\]/);
    const number = cell.classList.contains("number") ? text.match(NUMBER) : null;
    const sized = cell.dataset.size !== undefined;
    return {
      value: sized ? cell.dataset.size : text === DASH ? "" : number ? bare(number[1]) : text,
      unit: sized ? (/B$/.test(text) ? "bytes" : "s") : "",
      deviation: number && number[3] ? bare(number[3]) : "",
      low: ends ? ends[1] : "",
      high: ends ? ends[2] : "",
      note: (ends ? small.replace(ends[0], "") : small).replace(/^[, ]+|[, ]+$/g, ""),
    };
  };

  const writeCsv = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map(splitCell));
    const columns = heads.flatMap((head, place) => {
      const title = [...head.children].map((one) => one.textContent).join(" ");
      const of = rows.map((row) => row[place]);
      const unit = of.map((one) => one.unit).find(Boolean);
      const parts = [["value", unit ? `${title} (${unit})` : title], ["deviation", `${title}, standard deviation`],
        ["low", `${title}, low`], ["high", `${title}, high`], ["note", `${title}, note`]];
      return parts.filter(([part]) => part === "value" || of.some((one) => one[part])).map(([part, text]) => [text, ...of.map((one) => one[part])]);
    });
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    return columns[0].map((_, line) => columns.map((column) => quote(column[line])).join(",")).join("\n") + "\n";
  };

  for (const tools of document.querySelectorAll(".tools")) {
    const table = tools.nextElementSibling.querySelector("table");
    addButton(tools, "CSV", `${tools.dataset.name} as CSV`, () =>
      download(new Blob([writeCsv(table)], { type: "text/csv" }), `${nameOf(tools.dataset.name)}.csv`));
  }

  // A figure as a picture of its own, on white, with its title and its legend.
  const LINE = 20;
  const standAlone = (figure) => {
    const svg = figure.querySelector(".drawing svg").cloneNode(true);
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const make = (tag, values, text = "") => {
      const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
      Object.entries(values).forEach(([name, value]) => one.setAttribute(name, value));
      one.textContent = text;
      return one;
    };
    const entries = [...figure.querySelectorAll(".legend li")];
    const above = 34 + LINE * entries.length;
    const added = [make("style", {}, document.getElementById("saved").textContent),
      make("rect", { x: 0, y: -above, width, height: height + above, fill: "#ffffff" }),
      make("text", { x: 16, y: 22 - above, class: "title" }, figure.querySelector("h3").textContent)];
    entries.forEach((entry, place) => {
      const at = 34 - above + LINE * place;
      const key = make("g", { transform: `translate(16 ${at})` });
      key.append(...[...entry.querySelector("svg").children].map((one) => one.cloneNode(true)));
      added.push(key, make("text", { x: 46, y: at + 10 }, entry.textContent));
    });
    svg.prepend(...added);
    svg.setAttribute("viewBox", `0 ${-above} ${width} ${height + above}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", height + above);
    return [new XMLSerializer().serializeToString(svg), width, height + above];
  };

  const savePng = (figure, name) => {
    const [text, width, height] = standAlone(figure);
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [2 * width, 2 * height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => download(blob, name));
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  };

  for (const figure of document.querySelectorAll("figure")) {
    const [place, title] = [document.createElement("p"), figure.querySelector("h3").textContent];
    place.className = "save";
    addButton(place, "SVG", `save ${title} as SVG`, () => download(new Blob([standAlone(figure)[0]], { type: "image/svg+xml" }), `${nameOf(title)}.svg`));
    addButton(place, "PNG", `save ${title} as PNG`, () => savePng(figure, `${nameOf(title)}.png`));
    figure.append(place);
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
