// Interpolates, in logs, the grid of predictions that stands in #ask-grid; it knows no law.
"use strict";
(() => {
  const grid = JSON.parse(document.getElementById("ask-grid").textContent);
  const part = (id) => document.getElementById(`ask-${id}`);
  const [groupBox, studentBox, sizeBar, dataBar, exactBox] = ["group", "student", "size", "data", "exact"].map(part);
  const SVG = "http://www.w3.org/2000/svg";
  const BAR = 1000;
  let group, student, size, tokens;

  // Numbers as the rest of the page writes them.
  function number(value, digits = 3) {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    if (power < -3 || power >= 7) {
      const raised = [...String(Number(power))].map((c) => c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]).join("");
      return `${mantissa} × 10${raised}`.replace("-", "−");
    }
    const places = Math.max(0, digits - 1 - power);
    return Number(`${mantissa}e${power}`).toLocaleString("en-GB", { minimumFractionDigits: places, maximumFractionDigits: places });
  }
  const whole = (value) => value >= 1e7 ? number(value) : Math.round(value).toLocaleString("en-GB");
  const scaled = (value, units) => {
    const [name, length] = units.find(([, unit]) => value >= unit) || units[units.length - 1];
    return `${number(value / length)} ${name}`;
  };
  const duration = (s) => s === null ? "–" : s < 120 ? `${number(s)} s` : s < 7200 ? `${number(s / 60)} min` : s < 172800 ? `${number(s / 3600)} h` : `${number(s / 86400)} days`;
  const bytes = (b) => scaled(b, [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3], ["B", 1]]);
  const between = (low, high, digits) => `${low === null ? "no lower end" : number(low, digits)} to ${high === null ? "no upper end" : number(high, digits)}`;
  const capital = (text) => text[0].toUpperCase() + text.slice(1);

  // Where x lies among nodes: the node below it and the share of the way to the next, in logs.
  function place(nodes, x) {
    let low = 0, high = nodes.length - 1;
    if (high === 0) return [0, 0];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (nodes[middle] <= x) low = middle; else high = middle;
    }
    const share = Math.log(x / nodes[low]) / Math.log(nodes[low + 1] / nodes[low]);
    return [low, Math.min(1, Math.max(0, share))];
  }
  function mix(values, [node, share]) {
    const first = values[node], second = share > 0 ? values[node + 1] : first;
    if (first === null || second === null) return null;
    return first === second ? first : Math.exp((1 - share) * Math.log(first) + share * Math.log(second));
  }
  function curve(name, at) {
    const here = place(student.tokens, at);
    if (!student.sizes) return mix(student[name], here);
    const [node, share] = place(student.sizes, size);
    const rows = [node, share > 0 ? node + 1 : node].map((row) => mix(student[name][row], here));
    return mix(rows, [0, share]);
  }
  function rate(values) {
    if (values === null || !student.sizes) return values;
    const here = place(student.sizes, size);
    return values[here[0]] === 0 ? 0 : mix(values, here);
  }

  const perSample = () => group.tokens_per_sample;
  const unit = () => perSample() ? "samples" : "tokens";
  const shown = (count) => perSample() ? count / perSample() : count;
  const toBar = (nodes, x) => nodes.length < 2 ? 0 : Math.round(BAR * Math.log(x / nodes[0]) / Math.log(nodes[nodes.length - 1] / nodes[0]));
  const fromBar = (nodes, bar) => nodes[0] * Math.pow(nodes[nodes.length - 1] / nodes[0], bar / BAR);
  const clamp = (nodes, x) => Math.min(nodes[nodes.length - 1], Math.max(nodes[0], x));
  const tidy = (x) => Number(x.toPrecision(3));

  function factor() {
    let worst = 1;
    for (const [name, value] of [["tokens", tokens], ["params", size]]) {
      const range = student.range[name];
      if (range && value) worst = Math.max(worst, value / range[1], range[0] / value);
    }
    return worst <= grid.same_level ? 1 : worst;
  }
  const who = () => student.sizes
    ? `A student of ${whole(size)} ${student.size === "params" ? "" : "non-embedding "}parameters`
    : student.label + (student.params ? ` (${whole(student.params)} parameters)` : "");
  const amount = () => perSample() ? `${whole(shown(tokens))} samples (${whole(tokens)} tokens)` : `${whole(tokens)} tokens`;

  function costs() {
    const cost = (name) => { const each = rate(student.rates[name]); return each === null ? null : each * tokens; };
    const [seconds, flops] = [cost("train_seconds"), cost("train_flops")];
    const out = [];
    if (seconds !== null) out.push(`training takes ${duration(seconds)}`);
    if (flops !== null) out.push(`${out.length ? out.pop() + " and " : "training takes "}${number(flops)} FLOPs`);
    if (group.teacher && cost("teacher_tokens")) {
      const work = [cost("teacher_seconds"), cost("teacher_flops")];
      out.push(`the teacher writes ${whole(cost("teacher_tokens"))} tokens` + (work[0] === null ? "" : ` in ${duration(work[0])}`) + (work[1] === null ? "" : ` and ${number(work[1])} FLOPs`));
    }
    if (cost("cache_bytes")) {
      out.push(`soft targets take ${bytes(cost("cache_bytes"))}` + (cost("target_seconds") === null ? "" : ` and ${duration(cost("target_seconds"))}`));
    }
    const model = rate(student.model_bytes);
    if (model !== null) out.push(`the student takes ${bytes(model)}`);
    return out.length ? `${capital(out.join("; "))}: at the rates of this study's runs on their machine${student.sizes ? ", log-linear in size between students" : ""}.` : "Costs are not known from this table.";
  }

  function words() {
    const now = Object.fromEntries(["value", "low", "high", "run_low", "run_high"].map((name) => [name, curve(name, tokens)]));
    const exp = (x) => x === null || x > 700 ? null : Math.exp(x);
    const epochs = `${Number(group.epochs.toPrecision(6))} epoch${group.epochs === 1 ? "" : "s"}`;
    const beyond = factor();
    const lines = [
      ["", `${who()}, ${group.label}, ${amount()}, ${epochs}: expected loss ${number(now.value, 4)} nats per token (90 % interval ${between(now.low, now.high, 4)} for the mean over runs, ${between(now.run_low, now.run_high, 4)} for a new run). Perplexity ${number(exp(now.value))} (${between(exp(now.low), exp(now.high))}; a new run ${between(exp(now.run_low), exp(now.run_high))}).`],
      beyond > grid.max_factor ? ["warning", `Warning: extrapolated by a factor of ${number(beyond)}, more than ${grid.max_factor}: the law is no evidence that far.`]
        : ["", beyond > 1 ? `Extrapolated: a factor of ${number(beyond)} outside what the law was fitted to.` : "Inside what the law was fitted to."],
      ["", costs()],
      ["note", `Law ${student.law} over ${student.law_over}` + (student.law_error === null ? "." : `; its mean error on the dearest runs, which it had not seen, was ${number(100 * student.law_error, 2)} %.`)],
      ...student.notes.map((note) => ["note", `${capital(note)}.`]),
    ];
    part("words").replaceChildren(...lines.map(([kind, text]) => {
      const line = document.createElement("p");
      line.className = kind;
      line.textContent = text;
      return line;
    }));
  }

  function element(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function logTicks(low, high) {
    const steps = Math.log10(high / low) > 3 ? [1] : [1, 2, 5];
    const out = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of steps) {
        const tick = step * Math.pow(10, power);
        if (tick >= low && tick <= high) out.push(tick);
      }
    }
    return out;
  }
  function ticks(low, high) {
    const rough = (high - low) / 5, base = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map((m) => m * base).find((s) => s >= rough);
    const places = Math.max(0, -Math.floor(Math.log10(step)));
    const out = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) out.push([tick, tick.toFixed(places)]);
    return out;
  }
  const short = (x) => x >= 1e9 ? `${number(x / 1e9, 1)}G` : x >= 1e6 ? `${Number((x / 1e6).toPrecision(3))}M` : x >= 1e4 ? `${Number((x / 1e3).toPrecision(3))}k` : Number(x.toPrecision(3)).toLocaleString("en-GB");

  function draw() {
    const svg = part("chart"), width = Math.max(280, svg.parentElement.clientWidth), height = Math.min(340, Math.max(230, 0.55 * width));
    const [left, right, top, bottom] = [46, 10, 8, 42];
    const nodes = student.tokens, first = nodes[0], last = nodes[nodes.length - 1];
    const steps = 160;
    const xs = Array.from({ length: steps + 1 }, (_, k) => clamp(nodes, first * Math.pow(last / first, k / steps)));
    const [from, to] = student.range.tokens;
    const seen = xs.filter((x) => x >= from && x <= to * grid.max_factor);
    // Runs of a size stand on the curve of any size near it.
    const points = student.points.filter((point) => point.length < 3 || Math.abs(Math.log(point[2] / size)) < 0.1);
    const heights = points.map((point) => point[1]).concat(curve("value", last));
    for (const x of [from, to, ...seen]) for (const name of ["value", "low", "high"]) heights.push(curve(name, clamp(nodes, x)));
    const known = heights.filter((y) => y !== null), middle = curve("value", clamp(nodes, from));
    let low = Math.min(...known), high = Math.min(Math.max(...known), 3 * Math.max(middle, ...points.map((p) => p[1])));
    low -= 0.05 * (high - low) || 0.05 * low;
    high += 0.08 * (high - low);
    const x = (value) => left + (width - left - right) * (last > first ? Math.log(value / first) / Math.log(last / first) : 0.5);
    const y = (value) => top + (height - top - bottom) * (high - value) / (high - low);
    const bounded = (value, open) => value === null ? open : Math.min(high + (high - low), Math.max(low - (high - low), value));
    const xy = (at, value) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`;
    const band = (down, up, kind) => element("path", { class: kind, d: `M${xs.map((at) => xy(at, bounded(curve(up, at), 2 * high))).join("L")}L${[...xs].reverse().map((at) => xy(at, bounded(curve(down, at), low - high))).join("L")}Z` });
    const line = (some, kind) => some.length < 2 ? [] : [element("path", { class: kind, d: `M${some.map((at) => xy(at, bounded(curve("value", at), high))).join("L")}` })];
    const clip = element("clipPath", { id: "ask-clip" });
    clip.append(element("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }));
    const inside = element("g", { "clip-path": "url(#ask-clip)" });
    const axes = element("g", {});
    for (const [tick, text] of ticks(low, high)) {
      axes.append(element("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
      axes.append(element("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, text));
    }
    let free = -Infinity;
    for (const tick of logTicks(shown(first), shown(last))) {
      const at = x(perSample() ? tick * perSample() : tick);
      axes.append(element("line", { class: "grid", x1: at, x2: at, y1: height - bottom, y2: height - bottom + 4 }));
      if (at < free || at > width - 18) continue;
      axes.append(element("text", { x: at, y: height - bottom + 17, "text-anchor": "middle" }, short(tick)));
      free = at + 42;
    }
    axes.append(element("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, perSample() ? "samples" : "unique tokens"));
    axes.append(element("text", { transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "loss, nats per token"));
    const middleXs = [from, ...xs.filter((at) => at > from && at < to), to].map((at) => clamp(nodes, at));
    inside.append(
      band("run_low", "run_high", "run"), band("low", "high", "band"),
      ...line([...xs.filter((at) => at < from), clamp(nodes, from)], "curve beyond"), ...line(middleXs, "curve"),
      ...line([clamp(nodes, to), ...xs.filter((at) => at > to)], "curve beyond"),
      ...points.map(([at, loss]) => element("circle", { class: "point", cx: x(clamp(nodes, at)), cy: y(loss), r: 3 })),
      element("line", { class: "here", x1: x(tokens), x2: x(tokens), y1: top, y2: height - bottom }),
      element("circle", { class: "spot", cx: x(tokens), cy: y(curve("value", tokens)), r: 5 }),
    );
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(element("title", { id: "ask-chart-title" }, `Expected loss: ${who()}, ${group.label}, against ${perSample() ? "samples" : "unique tokens"}, with 90 % bands`), clip, axes, inside);
  }

  function show() {
    const text = `${whole(shown(tokens))} ${unit()}`;
    dataBar.value = toBar(student.tokens, tokens);
    dataBar.setAttribute("aria-valuetext", text);
    exactBox.value = tidyShown();
    exactBox.min = student.tokens[0] && Math.ceil(shown(student.tokens[0]));
    part("size-row").hidden = !student.sizes;
    if (student.sizes) {
      sizeBar.value = toBar(student.sizes, size);
      sizeBar.setAttribute("aria-valuetext", `${whole(size)} parameters`);
      part("size-text").textContent = `${short(size)} parameters`;
    }
    words();
    draw();
  }
  const tidyShown = () => Math.round(shown(tokens));
  function setTokens(count) {
    tokens = clamp(student.tokens, perSample() ? count * perSample() : count);
    show();
  }
  function chooseStudent(index) {
    student = [...group.students, ...(group.any_size ? [group.any_size] : [])][index];
    size = student.sizes ? student.start : student.params;
    tokens = clamp(student.tokens, tokens === undefined ? student.range.tokens[1] : tokens);
    show();
  }
  function chooseGroup(index) {
    group = grid.groups[index];
    const kind = group.any_size && group.any_size.size !== "params" ? " (non-embedding)" : "";
    const names = group.students.map((one) => one.label).concat(group.any_size ? [`any size${kind}`] : []);
    const chosen = Math.max(0, names.indexOf(studentBox.selectedOptions[0]?.textContent));
    studentBox.replaceChildren(...names.map((name, k) => new Option(name, k)));
    studentBox.selectedIndex = chosen;
    part("data-label").textContent = perSample() ? "Samples" : "Tokens";
    part("exact-label").textContent = perSample() ? "Samples, exact" : "Tokens, exact";
    chooseStudent(chosen);
  }

  for (const hidden of document.querySelectorAll(".ask-controls, .ask-figure")) hidden.hidden = false;
  groupBox.replaceChildren(...grid.groups.map((one, k) => new Option(one.label, k)));
  part("group-row").hidden = grid.groups.length < 2;
  groupBox.addEventListener("change", () => chooseGroup(groupBox.selectedIndex));
  studentBox.addEventListener("change", () => chooseStudent(studentBox.selectedIndex));
  sizeBar.addEventListener("input", () => { size = clamp(student.sizes, tidy(fromBar(student.sizes, sizeBar.value))); show(); });
  dataBar.addEventListener("input", () => setTokens(tidy(shown(fromBar(student.tokens, dataBar.value)))));
  exactBox.addEventListener("change", () => { if (Number(exactBox.value) > 0) setTokens(Number(exactBox.value)); else show(); });
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(draw, 100); });
  chooseGroup(0);
})();
