(() => {
  "use strict";
  const SECONDS = 1;
  const live = document.getElementById("live");

  // Everything is put into the page as text, never as HTML.
  const make = (tag, values = {}, ...inside) => {
    const one = Object.assign(document.createElement(tag), values);
    one.append(...inside);
    return one;
  };
  const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const said = make("p", { className: "said" });
  said.setAttribute("role", "status");
  const ask = async (what, question) => {
    if (question && !window.confirm(question)) return;
    set(said, "\u2026");
    try {
      const answer = await fetch("ask", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });
      set(said, await answer.text());
    } catch {
      set(said, "Not asked: nobody serves this page any more.");
    }
    look();
  };
  const button = (id, text, act) => make("button", { type: "button", id, textContent: text, onclick: act });

  // What is shown of each trial stays one row while it runs, so that a press is never lost.
  const rows = new Map();
  const fill = (body, trials, isDriven) => {
    const numbers = new Set(trials.map((one) => one.number));
    for (const [number, row] of rows) if (!numbers.has(number)) { row.remove(); rows.delete(number); }
    for (const one of trials) {
      let row = rows.get(one.number);
      if (!row) {
        const stop = button(`stop-${one.number}`, "", () =>
          ask({ ask: "stop_trial", trial: one.number }, `Stop ${one.label}? What it has learned is lost; the others go on.`));
        const more = button(`add-${one.number}`, "", () => ask({ ask: "add_seed", trial: one.number, seed: Number(row.dataset.seed) }));
        row = make("tr", {}, make("td"), make("td", { className: "number" }), make("td", { className: "number" }), make("td", { className: "number" }),
          make("td", {}, make("div", { className: "asks" }, stop, more)));
        rows.set(one.number, row);
        body.append(row);
      }
      [one.label, one.done, one.loss, one.time].forEach((text, place) => set(row.cells[place], text));
      const [stop, more] = row.querySelectorAll("button");
      set(stop, one.stopping ? "Ends after this step" : `Stop trial ${one.number}`);
      stop.disabled = one.stopping || !isDriven;
      row.dataset.seed = one.seed ?? "";
      more.hidden = one.seed === null;
      set(more, `Add seed ${one.seed}`);
    }
  };

  const [state, doing, wished] = [make("p", { className: "state" }), make("p"), make("p", { className: "quiet" })];
  const body = make("tbody");
  const heads = ["runs now", "steps", "training loss", "time", ""].map((text, place) => make("th", { scope: "col", textContent: text, className: place % 4 ? "number" : "" }));
  const stopAll = button("stop-study", "Stop the study", () => ask({ ask: "stop_study" }, "Stop the study? What runs goes on from its checkpoint with the same command."));
  const chosen = make("select", { id: "setting" });
  chosen.setAttribute("aria-label", "setting");
  const addSeed = button("add-seed", "", () => ask({ ask: "add_seed", trial: Number(chosen.value), seed: Number(chosen.selectedOptions[0].dataset.seed) }));
  const nameSeed = () => set(addSeed, `Add seed ${chosen.selectedOptions[0]?.dataset.seed ?? ""}`);
  chosen.addEventListener("change", nameSeed);
  const more = make("div", { className: "asks" }, stopAll, chosen, addSeed);
  live.replaceChildren(state, doing, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body), wished, more, said);

  const list = (settings) => {
    const known = [...chosen.options].map((one) => `${one.value} ${one.dataset.seed} ${one.textContent}`).join("\n");
    if (known === settings.map((one) => `${one.trial} ${one.seed} ${one.label}`).join("\n")) return;
    const before = chosen.value;
    chosen.replaceChildren(...settings.map((one) => {
      const option = make("option", { value: String(one.trial), textContent: one.label });
      option.dataset.seed = one.seed;
      return option;
    }));
    if (settings.some((one) => String(one.trial) === before)) chosen.value = before;
  };

  const show = (now) => {
    live.className = now.phase;
    set(state, now.state);
    set(doing, now.doing.join(" \u00b7 "));
    fill(body, now.running, now.driven);
    set(wished, now.wished.join(" \u00b7 "));
    list(now.settings);
    nameSeed();
    stopAll.hidden = !now.driven;
    chosen.hidden = addSeed.hidden = !now.settings.length;
  };

  // The report is made anew by loading the page again; where one was, and what was open, is kept for that moment.
  const KEPT = "sweeplab";
  const sectionOf = (element) => {
    const before = [...document.querySelectorAll("h2[id]")].filter((one) => one.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING);
    return before.length ? before.at(-1).id : "";
  };
  const folds = () => {
    const counts = {};
    return [...document.querySelectorAll("details")].map((one) => {
      const section = sectionOf(one);
      counts[section] = (counts[section] ?? 0) + 1;
      return [`${section} ${counts[section]}`, one];
    });
  };
  const tools = () => [...document.querySelectorAll(".tools")];
  const boxes = () => [...document.querySelectorAll(".scroll")];
  const keep = () => {
    const above = [...document.querySelectorAll("h2[id]")].filter((one) => one.getBoundingClientRect().top <= 0).at(-1);
    const focused = document.activeElement;
    sessionStorage.setItem(KEPT, JSON.stringify({
      anchor: above ? [above.id, above.getBoundingClientRect().top] : null,
      scroll: window.scrollY,
      folds: Object.fromEntries(folds().map(([key, one]) => [key, one.open])),
      tools: Object.fromEntries(tools().map((one) => [one.dataset.name,
        { checks: [...one.querySelectorAll("input[type=checkbox]")].map((box) => box.checked), words: one.querySelector("input[type=search]")?.value ?? "" }])),
      boxes: Object.fromEntries(boxes().map((one) => [one.getAttribute("aria-label"), one.scrollLeft])),
      sorted: boxes().map((one) => [one.getAttribute("aria-label"), one.querySelector("th[aria-sort]")]).filter(([, head]) => head)
        .map(([name, head]) => [name, head.textContent, head.getAttribute("aria-sort")]),
      focus: focused?.id || (focused?.type === "search" ? focused.closest(".tools").dataset.name : ""),
      setting: chosen.value,
      said: said.textContent,
    }));
  };
  const restore = () => {
    const text = sessionStorage.getItem(KEPT);
    sessionStorage.removeItem(KEPT);
    if (!text) return;
    const kept = JSON.parse(text);
    for (const [key, one] of folds()) if (key in kept.folds) one.open = kept.folds[key];
    for (const one of tools()) {
      const before = kept.tools[one.dataset.name];
      if (!before) continue;
      one.querySelectorAll("input[type=checkbox]").forEach((box, place) => { box.checked = before.checks[place] ?? box.checked; });
      const field = one.querySelector("input[type=search]");
      if (field && before.words) { field.value = before.words; field.dispatchEvent(new Event("input")); }
      if (field && kept.focus === one.dataset.name) field.focus({ preventScroll: true });
    }
    for (const one of boxes()) {
      const name = one.getAttribute("aria-label");
      for (const [box, title, way] of kept.sorted) {
        const head = box === name && [...one.querySelectorAll("th")].find((each) => each.textContent === title);
        if (head) {
          head.querySelector("button")?.click();
          if (head.getAttribute("aria-sort") !== way) head.querySelector("button")?.click();
        }
      }
      one.scrollLeft = kept.boxes[name] ?? 0;
    }
    set(said, kept.said);
    const anchor = kept.anchor && document.getElementById(kept.anchor[0]);
    window.scrollTo(0, anchor ? window.scrollY + anchor.getBoundingClientRect().top - kept.anchor[1] : kept.scroll);
    return kept;
  };

  let isPressed = false;
  document.addEventListener("pointerdown", () => { isPressed = true; });
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => setTimeout(() => { isPressed = false; }, 100));
  const isBusy = () => isPressed || !window.getSelection().isCollapsed;

  let timer = null;
  const look = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch("state");
      if (!answer.ok) throw new Error(String(answer.status));
      const now = await answer.json();
      show(now);
      if (now.version !== live.dataset.version && !isBusy()) {
        keep();
        window.location.reload();
        return;
      }
    } catch {
      live.className = "gone";
      set(state, "Nobody serves this page any more; below is what it showed last.");
      live.querySelectorAll("button").forEach((one) => { one.disabled = true; });
    }
    timer = setTimeout(look, 1000 * SECONDS);
  };

  history.scrollRestoration = "manual";
  const kept = restore();
  look().then(() => {
    if (!kept) return;
    chosen.value = [...chosen.options].some((one) => one.value === kept.setting) ? kept.setting : chosen.value;
    nameSeed();
    if (kept.focus) document.getElementById(kept.focus)?.focus({ preventScroll: true });
  });
})();
