// Interpolates, in logs, the grid of predictions that stands in #ask-grid; it knows no law.
"use strict";
(() => {
  const grid = JSON.parse(document.getElementById("ask-grid").textContent);
  const part = (id) => document.getElementById(`ask-${id}`);
  const [groupBox, studentBox, sizeBar, dataBar, exactBox] = ["group", "student", "size", "data", "exact"].map(part);
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
    ? `A ${grid.learner} of ${whole(size)} ${student.size === "params" ? "" : "non-embedding "}parameters`
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
      out.push(`the teacher generates ${whole(cost("teacher_tokens"))} tokens` + (work[0] === null ? "" : ` in ${duration(work[0])}`) + (work[1] === null ? "" : ` and ${number(work[1])} FLOPs`));
    }
    if (cost("cache_bytes")) {
      out.push(`soft targets take ${bytes(cost("cache_bytes"))}` + (cost("target_seconds") === null ? "" : ` and ${duration(cost("target_seconds"))}`));
    }
    const model = rate(student.model_bytes);
    if (model !== null) out.push(`the ${grid.learner} takes ${bytes(model)}`);
    return out.length ? `${capital(out.join("; "))}: at the rates of this study's runs on their machine${student.sizes ? `, log-linear in size between ${grid.learner}s` : ""}.` : "Costs are not known from this table.";
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
      ["note", `Law ${student.law} over ${student.law_over}` + (student.law_error === null ? "." : `; its mean error on the largest runs, which were held out, was ${number(100 * student.law_error, 2)} %.`)],
      ...student.notes.map((note) => ["note", `${capital(note)}.`]),
    ];
    part("words").replaceChildren(...lines.map(([kind, text]) => {
      const line = document.createElement("p");
      line.className = kind;
      line.textContent = text;
      return line;
    }));
  }

  const short = (x) => x >= 1e9 ? `${number(x / 1e9, 1)}G` : x >= 1e6 ? `${Number((x / 1e6).toPrecision(3))}M` : x >= 1e4 ? `${Number((x / 1e3).toPrecision(3))}k` : Number(x.toPrecision(3)).toLocaleString("en-GB");

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

  for (const hidden of document.querySelectorAll(".ask-controls")) hidden.hidden = false;
  groupBox.replaceChildren(...grid.groups.map((one, k) => new Option(one.label, k)));
  part("group-row").hidden = grid.groups.length < 2;
  groupBox.addEventListener("change", () => chooseGroup(groupBox.selectedIndex));
  studentBox.addEventListener("change", () => chooseStudent(studentBox.selectedIndex));
  sizeBar.addEventListener("input", () => { size = clamp(student.sizes, tidy(fromBar(student.sizes, sizeBar.value))); show(); });
  dataBar.addEventListener("input", () => setTokens(tidy(shown(fromBar(student.tokens, dataBar.value)))));
  exactBox.addEventListener("change", () => { if (Number(exactBox.value) > 0) setTokens(Number(exactBox.value)); else show(); });
  chooseGroup(0);
})();
