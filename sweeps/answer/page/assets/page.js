/* Draws the page from its data. One selection of trials is shown in all pictures. */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const page = document.getElementById("page");
  const pictures = []; // {box, option(), chart, drawn}
  let selected = null; // a Set of trial ids; null: all

  // Words and numbers.

  function number(x, digits = 4) {
    if (x === null || x === undefined) return "–";
    if (typeof x === "string") return x;
    let short = Number(x.toPrecision(digits));
    const unit = 10 ** (digits - 1 - Math.floor(Math.log10(Math.abs(x) || 1)));
    if (Math.abs((x * unit) % 1) === 0.5) short = (2 * Math.round((x * unit) / 2)) / unit; // as Python rounds
    const size = Math.abs(short);
    return size !== 0 && (size < 1e-3 || size >= 1e7) ? short.toExponential() : String(short);
  }
  const decimals = (x, digits) => {
    const scaled = x * 10 ** digits;
    const half = Math.abs(scaled % 1) === 0.5; // rounded to even, as Python does
    return half ? (2 * Math.round(scaled / 2)) / 10 ** digits : Number(x.toFixed(digits));
  };
  const percent = (x) => {
    // Only a whole trial is at 100%.
    const digits = (x < 1 && [0, 1, 2, 3].find((n) => decimals(100 * x, n) < 100)) || 0;
    return `${decimals(100 * x, digits).toFixed(digits)}%`;
  };
  const word = (status) => status.replaceAll("_", " ");
  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const hours = (s) =>
    s >= 3600
      ? `${number(s / 3600, 3)} h`
      : s >= 60
        ? `${number(s / 60, 3)} min`
        : `${number(s, 3)} s`;
  const date = (s) =>
    new Date(1000 * s).toLocaleString(undefined, {dateStyle: "medium", timeStyle: "short"});
  const sum = (list) => list.reduce((a, b) => a + b, 0);

  function unitOf(seconds) {
    if (seconds >= 3600) return {name: "hours", s: 3600};
    return seconds >= 60 ? {name: "minutes", s: 60} : {name: "seconds", s: 1};
  }

  // Elements.

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on")
        Object.entries(value).forEach(([event, f]) => element.addEventListener(event, f));
      else if (value !== null && value !== false)
        element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function card(title, caption, ...children) {
    return make(
      "section",
      {class: "card"},
      make("h2", {}, title),
      caption ? make("p", {class: "caption"}, caption) : null,
      ...children,
    );
  }

  /* A table; a cell is text, an element, or a number that is right-aligned. */
  function table(columns, rows) {
    const numeric = columns.map((_, i) => rows.some((row) => typeof row[i] === "number"));
    const cell = (value, i) =>
      make(
        "td",
        {class: numeric[i] ? "n" : typeof value === "string" && value.length > 40 ? "wrap" : null},
        value instanceof Node ? value : typeof value === "number" ? number(value) : (value ?? "–"),
      );
    return make(
      "table",
      {},
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          ...columns.map((name, i) =>
            make("th", {scope: "col", class: numeric[i] ? "n" : null}, name),
          ),
        ),
      ),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))),
    );
  }

  /* The numbers behind a picture, made when somebody opens them. */
  function behind(columns, rows, label = "The numbers") {
    const box = make("details", {class: "screen"}, make("summary", {}, label));
    box.addEventListener("toggle", () => {
      if (box.open && box.children.length === 1)
        box.append(make("div", {class: "scroll", tabindex: 0}, table(columns, rows())));
    });
    return box;
  }

  function legend(...entries) {
    return make(
      "p",
      {class: "legend"},
      ...entries.map(([name, color, kind]) => {
        const mark = make("i", {class: kind ?? null});
        mark.style[kind ? "borderColor" : "background"] = `var(--${color})`;
        return make("span", {}, mark, name);
      }),
    );
  }

  // Pictures.

  const css = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const narrow = () => innerWidth < 520;
  const still = {
    animation: false,
    textStyle: {fontFamily: getComputedStyle(document.body).fontFamily},
  };

  /* A place for a picture, drawn when it comes into view, and again when the selection changes. */
  function picture(label, option, kind = "") {
    const box = make("div", {class: `picture ${kind}`, role: "img", "aria-label": label});
    pictures.push({box, option, chart: null, stale: true});
    return box;
  }

  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const one = pictures.find((picture) => picture.box === entry.target);
        one.seen = entry.isIntersecting;
        if (one.seen && one.stale) draw(one);
      }
    },
    {rootMargin: "250px"},
  );

  function draw(one) {
    if (one.chart === null) {
      one.chart = echarts.init(one.box);
      one.begin?.(one.chart);
      new ResizeObserver(() => one.chart.resize()).observe(one.box);
    }
    one.stale = false;
    one.chart.setOption({...still, ...one.option()}, {replaceMerge: ["series"]});
    one.after?.();
  }

  function redraw(except = null) {
    for (const one of pictures) {
      if (one === except) continue;
      one.stale = true;
      if (one.seen) draw(one);
    }
  }

  function anew() {
    // other colours
    for (const one of pictures) {
      if (one.chart !== null) one.chart.clear();
      one.stale = true;
      if (one.seen) draw(one);
    }
  }

  const axisOf = (name, more = {}) => ({
    name,
    nameLocation: "middle",
    nameGap: 30,
    nameTextStyle: {color: css("muted"), fontSize: 12},
    axisLabel: {color: css("muted"), hideOverlap: true, formatter: (x) => number(x)},
    axisLine: {lineStyle: {color: css("line")}},
    axisTick: {show: false},
    splitLine: {lineStyle: {color: css("line"), opacity: 0.7}},
    ...more,
  });
  const across = (name, more = {}) => axisOf(name, {...more, splitLine: {show: false}});
  const upwards = (name, more = {}) =>
    axisOf(name, {
      type: "value",
      scale: true,
      nameGap: 46,
      ...more,
      nameTextStyle: {color: css("muted"), fontSize: 12},
    });
  const grid = (more = {}) => ({left: 62, right: 18, top: 14, bottom: 46, ...more});
  const tip = (formatter, more = {}) => ({
    trigger: "item",
    confine: true,
    backgroundColor: css("card"),
    borderColor: css("line"),
    textStyle: {color: css("text"), fontSize: 12},
    formatter,
    ...more,
  });

  // Selection.

  const chosen = (trial) => selected === null || selected.has(trial);
  const many = () => (selected?.size ?? data.trials.length) > 200; // drawn thinner, so that each is seen
  const faint = (trial) => (!chosen(trial) ? 0.1 : many() ? 0.6 : 1);

  function select(trials, from = null) {
    selected = trials;
    const note = document.getElementById("selection");
    note.hidden = selected === null;
    note.replaceChildren(
      ...(selected === null
        ? []
        : [
            `${selected.size} of ${data.trials.length} trials highlighted`,
            make("button", {type: "button", on: {click: clear}}, "Show all"),
          ]),
    );
    for (const row of document.querySelectorAll("tr[data-trial]")) {
      const on = selected !== null && selected.has(row.dataset.trial);
      row.classList.toggle("on", on);
      row.querySelector("button")?.setAttribute("aria-pressed", on);
    }
    redraw(from);
  }

  function clear() {
    brushes.clear();
    select(null);
    pictures.filter((one) => one.unbrush).forEach((one) => one.unbrush());
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && selected !== null) clear();
  });

  const brushes = new Map(); // number of the parallel axis to its intervals

  function byBrushes() {
    const active = [...brushes].filter(([, intervals]) => intervals.length);
    if (!active.length) return null;
    const inside = (x, intervals) =>
      x !== null && intervals.some(([low, high]) => x >= low && x <= high);
    return new Set(
      valued
        .filter((trial) => {
          const places = placesOf(trial);
          return active.every(([axis, intervals]) => inside(places[axis], intervals));
        })
        .map((trial) => trial.trial),
    );
  }

  // The axes of the tuned arguments. A place is a share of the domain, in [0, 1]; INACTIVE is beside it.

  const INACTIVE = -0.1;

  function scaleOf(axis) {
    if (axis.kind === "choice") {
      const n = axis.choices.length;
      return {
        place: (index) => (index === null ? INACTIVE : (index + 0.5) / n),
        text: (index) => (index === null ? "inactive" : axis.choices[index]),
        ticks: axis.choices.map((choice, i) => [(i + 0.5) / n, choice]),
        value: (text) => axis.choices.indexOf(text),
      };
    }
    const curve = axis.log ? Math.log10 : (x) => x;
    const low = curve(axis.low),
      width = curve(axis.high) - low;
    const place = (x) => (x === null ? INACTIVE : width ? (curve(x) - low) / width : 0.5);
    return {
      place,
      text: (x) => (x === null ? "inactive" : number(x)),
      value: Number,
      ticks: nice(axis).map((x) => [place(x), number(x)]),
    };
  }

  /* Round numbers in a domain; its ends where there are not two. */
  function nice(axis) {
    const {low, high} = axis,
      found = [];
    if (axis.log) {
      for (const factors of [[1], [1, 3], [1, 2, 5]]) {
        found.length = 0;
        for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
          for (const k of factors) {
            const x = Number((k * 10 ** e).toPrecision(6));
            if (x >= low && x <= high) found.push(x);
          }
        }
        if (found.length >= 3) break;
      }
    } else {
      const rough = (high - low) / 4,
        power = 10 ** Math.floor(Math.log10(rough || 1));
      const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough) || 1;
      for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++)
        found.push(Number((i * step).toPrecision(6)));
    }
    return found.length >= 2 ? found : low === high ? [low] : [low, high];
  }

  const placed = (ticks, more = {}) => {
    const names = new Map(ticks);
    const values = ticks.map(([place]) => place);
    const named = (place) => names.get(values.find((one) => Math.abs(one - place) < 1e-9)) ?? "";
    return {
      axisLabel: {
        color: css("muted"),
        customValues: values,
        formatter: named,
        hideOverlap: true,
        ...more,
      },
      axisTick: {show: true, customValues: values, lineStyle: {color: css("line")}},
    };
  };

  const scales = (data.axes ?? []).map(scaleOf);
  const hasInactive = (i) => data.trials.some((trial) => trial.values[i] === null);
  const placesOf = (trial) => [
    ...trial.values.map((x, i) => scales[i].place(x)),
    within(trial.value, valueRange),
  ];
  const within = (x, {low, high}) => Math.min(high, Math.max(low, x));

  // One sweep.

  const metric = data.answer?.metric;
  const byName = new Map((data.trials ?? []).map((trial) => [trial.trial, trial]));
  const winner = data.answer?.winner?.trial ?? null;
  const valued = (data.trials ?? []).filter((trial) => trial.value !== null);
  const allValues = valued.map((trial) => trial.value);

  function toneOf(trial) {
    if (trial.trial === winner) return "best";
    return (
      {stopped_early: "stopped", failed: "failed", finished: "finished"}[trial.status] ?? "other"
    );
  }

  /* The values that an axis shows: among many, a few hopeless ones would hide what matters. */
  const MANY_VALUES = 20;

  function rangeOf(values) {
    const sorted = [...values].sort((a, b) => (data.answer.mode === "max" ? b - a : a - b));
    const best = sorted[0],
      worst = sorted.at(-1),
      typical = sorted[Math.floor(sorted.length / 2)];
    const span = 6 * Math.abs(typical - best);
    const end =
      values.length >= MANY_VALUES && span > 0 && Math.abs(worst - best) > 2 * span
        ? best + Math.sign(worst - best) * span
        : worst;
    const pad = 0.06 * (Math.abs(end - best) || Math.abs(best) || 1);
    const low = Math.min(best, end) - pad,
      high = Math.max(best, end) + pad;
    return {low, high, beyond: values.filter((x) => x < low || x > high).length};
  }

  const valueRange = allValues.length ? rangeOf(allValues) : null;
  /* Texts of ticks in a range, with digits enough to tell them apart. */
  const tickText = ({low, high}) => {
    const size = Math.max(Math.abs(low), Math.abs(high));
    const digits = high > low ? Math.ceil(Math.log10(size / (high - low))) + 2 : 4;
    return (x) => number(x, Math.min(Math.max(4, digits), 15));
  };
  const valueAxis = (range) =>
    upwards(metric, {
      min: range.low,
      max: range.high,
      axisLabel: {
        color: css("muted"),
        showMinLabel: false,
        showMaxLabel: false,
        formatter: tickText(range),
      },
    });

  function about(trial) {
    const rows = data.axes.map((axis, i) =>
      trial.values[i] === null
        ? ""
        : `<tr><td style="padding-right:10px;opacity:.75">${escaped(axis.key)}</td><td>${escaped(scales[i].text(trial.values[i]))}</td></tr>`,
    );
    return (
      `<b>${escaped(trial.trial)}</b> · ${escaped(word(trial.status))}${trial.like_best ? " · ≈ the best" : ""}<br>` +
      `${escaped(metric)} <b>${number(trial.value)}</b>${trial.at === null ? "" : ` at ${percent(trial.at)}`}<table>${rows.join("")}</table>`
    );
  }

  const dot = (trial, x, size = 8) => ({
    name: trial.trial,
    value: [x, trial.value],
    symbolSize: trial.trial === winner ? size + 6 : many() ? size - 2 : size,
    symbol: trial.trial === winner ? "diamond" : "circle",
    itemStyle: {
      color: css(toneOf(trial)),
      opacity: trial.trial === winner && chosen(winner) ? 1 : faint(trial.trial) * 0.9,
      borderColor: css("card"),
      borderWidth: many() ? 0.5 : 1,
    },
  });
  const inFront = (a, b) =>
    (a.trial === winner) - (b.trial === winner) ||
    chosen(a.trial) - chosen(b.trial) ||
    (a.status !== "stopped_early") - (b.status !== "stopped_early");
  const trialTip = (params) => (byName.has(params.name) ? about(byName.get(params.name)) : "");
  const kinds = () =>
    legend(
      ["best", "best"],
      ["finished", "finished"],
      ["stopped early", "stopped"],
      ...(data.trials.some((t) => t.status === "failed") ? [["failed", "failed"]] : []),
      ...(data.trials.some((t) => toneOf(t) === "other") ? [["not ended", "other"]] : []),
    );

  function drawSweep() {
    const answer = data.answer;
    page.append(
      make(
        "header",
        {},
        make("h1", {}, data.sweep),
        make("span", {class: `badge ${answer.status}`}, answer.status),
        verdictBadge(),
        make("span", {class: "when"}, `as of ${date(data.made)}`),
      ),
      hero(),
    );
    if (valued.length) {
      page.append(bestSoFar(), make("div", {class: "two"}, curves(), survival()));
      if (data.axes.length) page.append(parallel(), slices(), importance());
    } else {
      page.append(card("Charts", "They appear after the first evaluation of a trial."));
    }
    if (data.timeline.lanes.length) page.append(timeline());
    page.append(make("div", {class: "two"}, seeds(), failures()), trials(), whatRan());
  }

  function verdictBadge() {
    const confirmation = data.answer.confirmation;
    if (!confirmation?.ended) return null;
    const verdict = confirmation.comparisons.find((one) => one.named)?.verdict;
    if (!verdict) return null;
    return make(
      "span",
      {class: `badge ${verdict === "not told apart" ? "untold" : verdict}`},
      `confirmed: ${verdict}`,
    );
  }

  function hero() {
    const {answer, best_so_far: cost} = data,
      total = sum(Object.values(answer.trials));
    const tile = (is, what) =>
      make(
        "div",
        {class: "tile"},
        make("div", {class: "is"}, is),
        make("div", {class: "what"}, what),
      );
    const tiles = make("div", {class: "tiles"});
    data.tiles.forEach((one) => tiles.append(tile(one.number, one.what)));
    tiles.append(
      tile(
        `${total}`,
        data.planned > total ? `of ${data.planned} trials` : total === 1 ? "trial" : "trials",
      ),
    );
    tiles.append(tile(hours(cost.used_s), "device time"));
    if (cost.saved_s > 0) tiles.append(tile(hours(cost.saved_s), "saved by early stopping"));
    return make(
      "section",
      {class: "card hero"},
      make("ol", {}, ...data.sentences.map((text) => make("li", {}, text))),
      answer.reason
        ? make(
            "p",
            {class: "why"},
            `${answer.status === "failed" ? "The sweep failed" : "The sweep ended early"}: ${answer.reason}`,
          )
        : null,
      tiles,
      answer.winner
        ? make(
            "ul",
            {class: "params", "aria-label": `Params of ${winner}`},
            ...Object.entries(answer.winner.params).map(([key, value]) =>
              make(
                "li",
                {},
                `${key} `,
                make("b", {}, typeof value === "number" ? number(value) : String(value)),
              ),
            ),
          )
        : null,
    );
  }

  function bestSoFar() {
    const {steps, used_s, saved_s, stopped} = data.best_so_far,
      unit = unitOf(used_s + saved_s);
    const last = steps.at(-1);
    const option = () => {
      const range = valueRange;
      const line = (at, end) => [
        ...steps.map((step) => [step[at] / unit.s, step.value]),
        ...(last ? [[end / unit.s, last.value]] : []),
      ];
      const points = valued.filter((trial) => trial.reached_s !== null).sort(inFront);
      return {
        grid: grid(),
        tooltip: tip(trialTip),
        xAxis: across(`device-${unit.name}`, {
          type: "value",
          min: 0,
          max: ((used_s + saved_s) / unit.s) * 1.005,
          axisLabel: {color: css("muted"), showMaxLabel: false, formatter: (x) => number(x)},
        }),
        yAxis: valueAxis(range),
        series: [
          {
            type: "line",
            name: "best so far",
            step: "end",
            symbol: "none",
            data: line("used_s", used_s),
            lineStyle: {color: css("best"), width: 3, opacity: selected ? 0.5 : 1},
            z: 3,
            silent: true,
            markArea:
              saved_s > 0
                ? {
                    silent: true,
                    itemStyle: {color: css("soft")},
                    label: {
                      color: css("muted"),
                      position: data.answer.mode === "max" ? "insideBottom" : "insideTop",
                      formatter: `saved: ${hours(saved_s)}`,
                    },
                    data: [[{xAxis: used_s / unit.s}, {xAxis: (used_s + saved_s) / unit.s}]],
                  }
                : undefined,
          },
          ...(saved_s > 0
            ? [
                {
                  type: "line",
                  name: "without early stopping",
                  step: "end",
                  symbol: "none",
                  data: line("whole_s", used_s + saved_s),
                  lineStyle: {color: css("muted"), width: 2, type: "dashed", opacity: 0.8},
                  z: 2,
                  silent: true,
                },
              ]
            : []),
          {
            type: "scatter",
            data: points.map((trial) => dot(trial, trial.reached_s / unit.s)),
            z: 4,
          },
        ],
      };
    };
    const saving =
      saved_s > 0
        ? ` Early stopping cut ${stopped} trials short; at their pace, they would have needed ${hours(saved_s)} more to finish. The dashed line includes that time.`
        : "";
    return card(
      "Best so far over device time",
      `Each point is a trial at its best evaluation.${saving}`,
      picture(
        `Best ${metric} so far over device-${unit.name}: ${last ? number(last.value) : "none"} after ${hours(used_s)}`,
        option,
      ),
      legend(
        ["best so far", "best", "line"],
        ...(saved_s > 0 ? [["if no trial had been stopped early", "muted", "dash"]] : []),
        ["finished", "finished"],
        ["stopped early", "stopped"],
      ),
      behind(["trial", `best ${metric}`, `device-${unit.name}`, "without early stopping"], () =>
        steps.map((step) => [step.trial, step.value, step.used_s / unit.s, step.whole_s / unit.s]),
      ),
    );
  }

  function curves() {
    const shown = data.trials.filter((trial) => trial.curve.length);
    const range = rangeOf([
      ...shown.flatMap((trial) => trial.curve.map(([, value]) => value)),
      ...allValues,
    ]);
    const rungs = data.rungs
      .filter((rung) => rung.progress < 1 && rung.expected !== null)
      .map((rung) => rung.progress);
    const option = () => {
      const ordered = [...shown].sort(inFront);
      return {
        grid: grid({top: 24}),
        tooltip: tip(trialTip),
        xAxis: across("fraction of a trial", {
          type: "value",
          min: 0,
          max: 1,
          axisLabel: {color: css("muted"), formatter: percent},
        }),
        yAxis: valueAxis(range),
        series: [
          {
            type: "lines",
            coordinateSystem: "cartesian2d",
            polyline: true,
            clip: true,
            z: 2,
            emphasis: {lineStyle: {width: 4}},
            data: ordered
              .filter((trial) => trial.curve.length > 1)
              .map((trial) => ({
                name: trial.trial,
                coords: trial.curve,
                lineStyle: {
                  color: css(toneOf(trial)),
                  width: trial.trial === winner ? 3.5 : many() ? 1 : 1.6,
                  opacity:
                    trial.trial === winner && chosen(winner)
                      ? 1
                      : faint(trial.trial) * (toneOf(trial) === "stopped" ? 0.75 : 0.9),
                },
              })),
          },
          {
            type: "scatter",
            z: 3,
            data: ordered.map((trial) => ({...dot(trial, 0, 6), value: trial.curve.at(-1)})),
            markLine: {
              precision: 4, // of `mark.value`, 2 by default
              silent: true,
              symbol: "none",
              lineStyle: {color: css("muted"), type: "dotted"},
              label: {
                color: css("muted"),
                fontSize: 11,
                position: "end",
                distance: 3,
                formatter: (mark) => (narrow() ? "" : `rung ${percent(mark.value)}`),
              },
              data: rungs.map((xAxis) => ({xAxis})),
            },
          },
        ],
      };
    };
    const beyond = range.beyond ? ` ${range.beyond} values are beyond the axis.` : "";
    return card(
      "Learning curves",
      `Dotted lines are rungs, where weak trials are stopped.${beyond}`,
      picture(`${metric} of ${shown.length} trials over their progress`, option),
      kinds(),
      behind(["trial", "progress", metric], () =>
        shown.flatMap((trial) =>
          trial.curve.map(([progress, value]) => [trial.trial, percent(progress), value]),
        ),
      ),
    );
  }

  function survival() {
    const rungs = data.rungs,
      forecast = rungs.some((rung) => rung.expected !== null);
    const there = (rung) =>
      data.trials.filter(
        (trial) =>
          chosen(trial.trial) &&
          trial.curve.length &&
          trial.curve.at(-1)[0] >= rung.progress - 1e-9,
      ).length;
    const option = () => ({
      grid: grid(),
      tooltip: tip(
        (params) => `${params.name}: <b>${number(params.value)}</b> ${params.seriesName}`,
      ),
      xAxis: across("fraction of a trial", {
        type: "category",
        data: rungs.map((rung) => percent(rung.progress)),
      }),
      yAxis: upwards("trials", {scale: false, min: 0}),
      series: [
        {
          type: "bar",
          name: "trials that reached it",
          barWidth: "46%",
          data: rungs.map((rung) => rung.trials),
          itemStyle: {
            color: css("finished"),
            opacity: selected ? 0.2 : 0.9,
            borderRadius: [4, 4, 0, 0],
          },
          label: {
            show: selected === null,
            position: "insideBottom",
            color: css("card"),
            fontWeight: 600,
          },
        },
        ...(selected
          ? [
              {
                type: "bar",
                name: "highlighted trials that reached it",
                barWidth: "46%",
                barGap: "-100%",
                data: rungs.map(there),
                itemStyle: {color: css("finished"), borderRadius: [4, 4, 0, 0]},
                label: {show: true, position: "insideBottom", color: css("text"), fontWeight: 600},
              },
            ]
          : []),
        ...(forecast
          ? [
              {
                type: "scatter",
                name: "expected",
                symbol: "diamond",
                symbolSize: 13,
                z: 5,
                data: rungs.map((rung) => rung.expected),
                itemStyle: {color: css("best"), borderColor: css("card"), borderWidth: 1.5},
              },
            ]
          : []),
      ],
    });
    const caption = forecast
      ? `How many trials reached each rung, beside the forecast of plan for ${data.planned} trials.`
      : "How many trials reached each evaluation. There is no forecast for your own scheduler.";
    return card(
      "Who survives the rungs",
      caption,
      picture(
        `Trials at each rung: ${rungs.map((rung) => `${percent(rung.progress)} ${rung.trials}`).join(", ")}`,
        option,
      ),
      legend(["trials", "finished"], ...(forecast ? [["forecast", "best"]] : [])),
      behind(["progress", "trials", ...(forecast ? ["forecast"] : [])], () =>
        rungs.map((rung) => [
          percent(rung.progress),
          rung.trials,
          ...(forecast ? [rung.expected] : []),
        ]),
      ),
    );
  }

  const RAMP = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#f0d423"]; // viridis
  const DARK_RAMP = ["#7a4a9e", "#6f7fd0", "#4aa3bd", "#3cc79a", "#8fe067", "#fde74c"];
  const isDark = () =>
    matchMedia("(prefers-color-scheme: dark)").matches &&
    !("print" in document.documentElement.dataset);

  function parallel() {
    const range = valueRange;
    const ramp = () => (isDark() ? DARK_RAMP : RAMP);
    const tint = (value) => {
      const share = Math.min(1, Math.max(0, (value - range.low) / (range.high - range.low)));
      const colors = ramp(),
        at = (data.answer.mode === "max" ? share : 1 - share) * (colors.length - 1);
      return echarts.color.lerp(at - Math.floor(at), [
        colors[Math.floor(at)],
        colors[Math.ceil(at)],
      ]);
    };
    const names = [...data.axes.map((axis) => axis.name), metric];
    const short = (name) =>
      narrow() && name.length > 12
        ? `${name.slice(0, 11)}…`
        : name.length > 26
          ? `${name.slice(0, 25)}…`
          : name;
    const bar = make("span", {class: "ramp"});
    const option = () => ({
      tooltip: tip(trialTip),
      parallel: {
        left: narrow() ? 42 : 50,
        right: Math.max(narrow() ? 46 : 80, 16 + 6.5 * tickText(range)(range.low).length),
        top: 54,
        bottom: 22,
        layout: "horizontal",
        axisExpandable: false,
      },
      parallelAxis: names.map((name, i) => {
        const own = i < scales.length,
          none = own && hasInactive(i);
        const label = {
          fontSize: 11,
          backgroundColor: css("card"),
          padding: [1, 3],
          borderRadius: 3,
        };
        return {
          id: `axis${i}`,
          dim: i,
          z: 10,
          type: "value",
          min: own ? (none ? INACTIVE : 0) : range.low,
          max: own ? 1 : range.high,
          name: short(name),
          nameTextStyle: {color: css("text"), fontSize: 12, fontWeight: own ? 400 : 700},
          nameGap: i % 2 && names.length > 4 ? 26 : 12,
          axisLine: {lineStyle: {color: css("muted")}},
          splitLine: {show: false},
          ...(own
            ? placed([...scales[i].ticks, ...(none ? [[INACTIVE, "inactive"]] : [])], label)
            : {
                axisLabel: {
                  color: css("muted"),
                  ...label,
                  showMinLabel: false,
                  showMaxLabel: false,
                  formatter: tickText(range),
                },
                axisTick: {show: false},
              }),
          areaSelectStyle: {
            width: 22,
            color: css("finished"),
            borderColor: css("finished"),
            opacity: 0.25,
          },
          realtime: false,
        };
      }),
      series: [
        {
          type: "parallel",
          smooth: false,
          progressive: 0,
          inactiveOpacity: 0.04,
          activeOpacity: 0.95,
          emphasis: {lineStyle: {width: 4, opacity: 1}},
          data: [...valued].sort(inFront).map((trial) => ({
            name: trial.trial,
            value: placesOf(trial),
            lineStyle: {
              color: trial.trial === winner ? css("best") : tint(trial.value),
              width: trial.trial === winner ? 4 : many() ? 1 : 1.8,
              opacity: brushes.size ? 1 : faint(trial.trial) * 0.8,
            },
          })),
        },
      ],
    });
    const colored = () => {
      bar.style.background = `linear-gradient(90deg, ${ramp().join(", ")})`;
      return option();
    };
    const box = picture(
      `Params of ${valued.length} trials on parallel axes, the last of them ${metric}`,
      colored,
      "tall",
    );
    const one = pictures.at(-1);
    one.begin = (chart) =>
      chart.on("axisareaselected", (event) => {
        const axis = Number(event.parallelAxisId.replace("axis", ""));
        if (JSON.stringify(brushes.get(axis) ?? []) === JSON.stringify(event.intervals)) return;
        const mixed = selected !== null && brushes.size === 0;
        if (event.intervals.length) brushes.set(axis, event.intervals);
        else brushes.delete(axis);
        setTimeout(() => select(byBrushes(), mixed ? null : one));
      });
    const brush = (axis, intervals) => {
      one.chart?.dispatchAction({type: "axisAreaSelect", parallelAxisId: `axis${axis}`, intervals});
      one.chart?.setOption({}); // ECharts 6.1 draws a dragged area, but one that it is told of only now
    };
    one.after = () => brushes.forEach((intervals, axis) => brush(axis, intervals));
    one.unbrush = () => names.forEach((_, axis) => brush(axis, []));
    return card(
      "Params side by side",
      "Drag along an axis to highlight trials in all charts; click the axis to undo.",
      box,
      make(
        "p",
        {class: "legend"},
        make("span", {}, "worse", bar, "better"),
        ...legend(["best trial", "best", "line"]).childNodes,
      ),
      filter(names, one, brush),
    );
  }

  /* The same as dragging, for a keyboard or a phone. */
  function filter(names, one, brush) {
    const axis = make(
      "select",
      {"aria-label": "axis"},
      ...names.map((name, i) => make("option", {value: i}, name)),
    );
    const low = make("input", {"aria-label": "from", placeholder: "from"}),
      high = make("input", {"aria-label": "to", placeholder: "to"});
    const submit = (event) => {
      event.preventDefault();
      const i = Number(axis.value),
        scale = scales[i];
      const place = (text, none) => {
        if (text.trim() === "") return none;
        if (!scale) return Number(text);
        const value = scale.value(text.trim());
        return data.axes[i].kind === "choice" ? scale.place(value) : scale.place(Number(text));
      };
      const ends = [
        place(low.value, scale ? 0 : -Infinity),
        place(
          high.value || (scale && data.axes[i].kind === "choice" ? low.value : ""),
          scale ? 1 : Infinity,
        ),
      ];
      if (ends.some(Number.isNaN)) return;
      if (one.chart === null) draw(one);
      brush(i, [[Math.min(...ends) - 1e-9, Math.max(...ends) + 1e-9]]);
    };
    return make(
      "form",
      {class: "filter", on: {submit}},
      "Highlight",
      axis,
      low,
      high,
      make("button", {type: "submit"}, "Apply"),
      make("button", {type: "button", on: {click: clear}}, "Show all"),
    );
  }

  function slices() {
    const range = valueRange;
    const each = data.axes.map((axis, i) => {
      const scale = scales[i],
        active = valued.filter((trial) => trial.values[i] !== null);
      const option = () => ({
        grid: grid({left: 52, bottom: 30, top: 8, right: 14}),
        tooltip: tip(trialTip),
        xAxis: {
          type: "value",
          min: -0.03,
          max: 1.03,
          axisLine: {lineStyle: {color: css("line")}},
          splitLine: {show: false},
          ...placed(scale.ticks, {fontSize: 11}),
        },
        yAxis: {
          ...valueAxis(range),
          name: "",
          axisLine: {onZero: false, lineStyle: {color: css("line")}},
        },
        series: [
          {
            type: "line",
            symbol: "none",
            silent: true,
            z: 2,
            lineStyle: {color: css("muted"), width: 2},
            data: axis.buckets.map(([x, y]) => [scale.place(x), y]),
          },
          {
            type: "scatter",
            z: 3,
            data: [...active]
              .sort(inFront)
              .map((trial) => dot(trial, scale.place(trial.values[i]), 7)),
          },
        ],
      });
      const widen =
        axis.edge &&
        `The best is at the ${axis.edge === "low" ? "lower" : "upper"} edge, ${number(axis.edge === "low" ? axis.low : axis.high)}: widen the domain`;
      return make(
        "div",
        {},
        make("h3", {}, axis.name),
        make("p", {class: "caption"}, make("code", {}, axis.domain)),
        picture(`${metric} over ${axis.name}`, option),
        widen ? make("p", {class: "mark"}, `▲ ${widen}`) : null,
      );
    });
    return card(
      "Each argument on its own",
      "The best value of each trial; the line joins the best of each part of the domain.",
      make("div", {class: "slices"}, ...each),
      kinds(),
      behind(["argument", "value", `best ${metric} there`], () =>
        data.axes.flatMap((axis, i) =>
          axis.buckets.map(([x, y]) => [axis.name, scales[i].text(x), y]),
        ),
      ),
    );
  }

  function importance() {
    const {shares, params_sets: n, needed} = data.importance,
      weak = n < needed,
      most = Math.max(...Object.values(shares), 1e-9);
    const caption =
      `How much each argument decides whether params are in the best tenth (PED-ANOVA). ` +
      (weak
        ? `With ${n} params set${n === 1 ? "" : "s"} this may be noise: a meaningful result needs ${needed}.`
        : `From ${n} params sets.`);
    const bar = (share) => {
      const mark = make("i");
      mark.style.width = `${(70 * share) / most}%`;
      return make("div", {class: weak ? "bar weak" : "bar"}, mark, percent(share));
    };
    return card(
      "Importance",
      caption,
      Object.keys(shares).length
        ? table(
            ["argument", "share"],
            Object.entries(shares).map(([name, share]) => [name, bar(share)]),
          )
        : make("p", {}, "This needs at least two different values."),
    );
  }

  const DOING = {
    start: ["starting, smoke run", "start"],
    gap: ["between two trials", "gap"],
    finished: ["trial, finished", "finished"],
    stopped_early: ["trial, stopped early", "stopped"],
    failed: ["attempt that failed", "failed"],
    paused: ["trial, then paused", "other"],
    interrupted: ["attempt, interrupted", "best"],
    running: ["trial, running", "other"],
    idle: ["idle", "idle"],
  };

  function timeline() {
    const {lanes, device_s: spent} = data.timeline;
    const end = Math.max(...lanes.flatMap((lane) => lane.spans.map((span) => span.end))),
      unit = unitOf(end);
    const total = sum(Object.values(spent)),
      shown = Object.keys(DOING).filter((what) => spent[what]);
    const names = lanes.map(
      (lane, i) => `group ${i + 1}${lane.devices > 1 ? ` (${lane.devices} devices)` : ""}`,
    );
    const option = () => ({
      grid: grid({left: narrow() ? 62 : 92}),
      tooltip: tip(
        ({data: item}) =>
          `${names[item.value[0]]}: <b>${escaped(item.name || DOING[item.what][0])}</b>${item.name ? `, ${DOING[item.what][0].replace("trial, ", "")}` : ""}<br>` +
          `${hours(item.value[2] * unit.s - item.value[1] * unit.s)}, from ${hours(item.value[1] * unit.s)}${byName.has(item.name) ? `<br>${escaped(metric)} ${number(byName.get(item.name).value)}` : ""}`,
      ),
      xAxis: across(`${unit.name} since the start`, {
        type: "value",
        min: 0,
        max: end / unit.s,
        axisLabel: {color: css("muted"), showMaxLabel: false, formatter: (x) => number(x)},
      }),
      yAxis: axisOf("", {
        type: "category",
        inverse: true,
        data: names,
        splitLine: {show: false},
        axisLabel: {color: css("muted")},
      }),
      dataZoom: [{type: "inside", filterMode: "weakFilter", zoomOnMouseWheel: "ctrl"}],
      series: [
        {
          type: "custom",
          clip: true,
          encode: {x: [1, 2], y: 0},
          renderItem(params, api) {
            const [x, y] = api.coord([api.value(1), api.value(0)]),
              [right] = api.coord([api.value(2), api.value(0)]);
            const height = Math.min(34, api.size([0, 1])[1] * 0.64),
              item = items[params.dataIndex],
              wide = right - x;
            const shape = echarts.graphic.clipRectByRect(
              {x, y: y - height / 2, width: Math.max(wide, 0.7), height},
              {
                x: params.coordSys.x,
                y: params.coordSys.y,
                width: params.coordSys.width,
                height: params.coordSys.height,
              },
            );
            return (
              shape && {
                type: "rect",
                shape: {...shape, r: wide > 6 ? 3 : 0},
                style: {
                  fill: css(DOING[item.what][1]),
                  opacity: item.name ? faint(item.name) : selected ? 0.3 : 1,
                  stroke: css("card"),
                  lineWidth: wide > 3 ? 1 : 0,
                },
                textConfig: {position: "inside"},
                textContent:
                  item.name && wide > 34
                    ? {
                        style: {
                          text: item.name,
                          fill: isDark()
                            ? "#10151a"
                            : item.what === "stopped_early"
                              ? "#1a2129"
                              : "#fff",
                          fontSize: 11,
                          opacity: chosen(item.name) ? 1 : 0.2,
                        },
                      }
                    : undefined,
              }
            );
          },
          data: items,
        },
      ],
    });
    const items = lanes.flatMap((lane, i) =>
      lane.spans.map((span) => ({
        name: span.trial ?? "",
        what: span.what,
        value: [i, span.start / unit.s, span.end / unit.s],
      })),
    );
    const box = picture(
      `What each of ${lanes.length} worker groups did over ${hours(end)}`,
      option,
    );
    box.style.height = `${Math.min(520, 80 + 46 * lanes.length)}px`;
    return card(
      "What the devices did",
      `${shown.map((what) => `${DOING[what][0]} ${percent(spent[what] / total)}`).join(" · ")} of ${hours(total)} of device time.`,
      box,
      legend(...shown.map((what) => DOING[what])),
      behind(["group", "does", "trial", "from (s)", "to (s)"], () =>
        lanes.flatMap((lane) =>
          lane.spans.map((span) => [
            names[lanes.indexOf(lane)],
            DOING[span.what][0],
            span.trial,
            span.start,
            span.end,
          ]),
        ),
      ),
    );
  }

  function seeds() {
    const title = "Seeds and intervals";
    if (data.seeds === null) {
      const when = data.answer.status === "finished" ? "" : " once the search has ended";
      return card(
        title,
        `Every params set ran with one seed, so a good value may be luck. To run the best params and the baseline with fresh seeds${when}:`,
        make("pre", {}, data.ran.confirm),
      );
    }
    const shown = data.seeds.params,
      names = shown.map((one) => `${one.params_set}${one.baseline ? " (baseline)" : ""}`);
    const option = () => ({
      grid: grid({left: narrow() ? 70 : 104}),
      tooltip: tip((params) => params.data.text),
      xAxis: axisOf(metric, {type: "value", scale: true}),
      yAxis: axisOf("", {type: "category", inverse: true, data: names, splitLine: {show: false}}),
      series: [
        {
          type: "custom",
          z: 2,
          encode: {x: [1, 2], y: 0},
          renderItem(params, api) {
            const [left, y] = api.coord([api.value(1), api.value(0)]),
              [right] = api.coord([api.value(2), api.value(0)]);
            const style = {stroke: css("best"), lineWidth: 2.5},
              end = (x) => ({type: "line", shape: {x1: x, x2: x, y1: y - 7, y2: y + 7}, style});
            return {
              type: "group",
              children: [
                {type: "line", shape: {x1: left, x2: right, y1: y, y2: y}, style},
                end(left),
                end(right),
              ],
            };
          },
          data: shown.flatMap((one, i) =>
            one.mean && one.mean.low !== null
              ? [
                  {
                    value: [i, one.mean.low, one.mean.high],
                    text: `95 % interval of the mean: ${number(one.mean.low)} to ${number(one.mean.high)}`,
                  },
                ]
              : [],
          ),
        },
        {
          type: "scatter",
          z: 3,
          symbolSize: 9,
          itemStyle: {
            color: css("finished"),
            opacity: 0.75,
            borderColor: css("card"),
            borderWidth: 1,
          },
          data: shown.flatMap((one, i) =>
            one.values
              .map((value, seed) =>
                value === null
                  ? null
                  : {
                      value: [value, i],
                      text: `${escaped(names[i])}, seed ${seed + 1}: <b>${number(value)}</b>`,
                    },
              )
              .filter(Boolean),
          ),
        },
        {
          type: "scatter",
          z: 4,
          symbol: "diamond",
          symbolSize: 14,
          itemStyle: {color: css("best"), borderColor: css("card"), borderWidth: 1.5},
          data: shown.flatMap((one, i) =>
            one.mean
              ? [
                  {
                    value: [one.mean.mean, i],
                    text: `${escaped(names[i])}: mean <b>${number(one.mean.mean)}</b>`,
                  },
                ]
              : [],
          ),
        },
        {
          type: "scatter",
          z: 4,
          symbol: "circle",
          symbolSize: 13,
          itemStyle: {color: "transparent", borderColor: css("failed"), borderWidth: 2},
          data: shown.flatMap((one, i) =>
            one.search_value === null
              ? []
              : [
                  {
                    value: [one.search_value, i],
                    text: `${escaped(names[i])}: the search saw <b>${number(one.search_value)}</b>`,
                  },
                ],
          ),
        },
      ],
    });
    const confirmed = data.seeds.source === "confirmation";
    const box = picture(`${metric} by seed of ${names.join(", ")}`, option);
    box.style.height = `${90 + 48 * shown.length}px`;
    return card(
      title,
      confirmed
        ? `Fresh seeds, the same for all${data.answer.confirmation.ended ? "" : "; some runs have not finished"}.`
        : "The seeds of the search, which also chose the winner.",
      box,
      legend(
        ["a run", "finished"],
        ["mean, 95 % interval", "best"],
        ...(confirmed ? [["what the search saw", "failed"]] : []),
      ),
      behind(
        [
          "params of",
          "mean",
          "low",
          "high",
          "sd",
          "seeds",
          ...(confirmed ? ["in the search"] : []),
        ],
        () =>
          shown.map((one, i) => [
            names[i],
            one.mean?.mean,
            one.mean?.low,
            one.mean?.high,
            one.mean?.sd,
            one.mean?.n ?? 0,
            ...(confirmed ? [one.search_value] : []),
          ]),
      ),
    );
  }

  function failures() {
    const {causes} = data;
    if (!causes.length) return card("Failures", "No attempt of a trial failed.");
    const failed = sum(causes.map((cause) => cause.failed.length)),
      list = (trials) =>
        trials.length > 6
          ? `${trials.slice(0, 6).join(", ")} and ${trials.length - 6} more`
          : trials.join(", ");
    return card(
      "Failures by cause",
      `${failed} of ${data.trials.length} trials failed for good.`,
      make(
        "div",
        {class: "scroll", tabindex: 0},
        table(
          ["cause", "attempts", "trials that failed", "message"],
          causes.map((cause) => [
            word(cause.kind),
            cause.attempts,
            cause.failed.length ? list(cause.failed) : "none",
            cause.message || "–",
          ]),
        ),
      ),
    );
  }

  const FIRST = 60; // trials in the table, before somebody asks for the others

  function trials() {
    const row = (trial, i) => {
      const button = make(
        "button",
        {
          type: "button",
          "aria-label": `Highlight ${trial.trial}`,
          "aria-pressed": "false",
          on: {
            click: () => {
              const now = new Set(brushes.size || selected === null ? [] : selected);
              if (brushes.size) clear();
              if (!now.delete(trial.trial)) now.add(trial.trial);
              select(now.size ? now : null);
            },
          },
        },
        "show",
      );
      const cells = [
        button,
        String(i + 1),
        `${trial.trial}${trial.trial === winner ? " ◆" : trial.like_best ? " ≈" : ""}`,
        number(trial.value, data.digits),
        trial.at === null ? "–" : percent(trial.at),
        word(trial.status),
        ...data.axes.map((_, axis) =>
          trial.values[axis] === null ? "–" : scales[axis].text(trial.values[axis]),
        ),
        hours(trial.device_s),
      ];
      return make(
        "tr",
        {"data-trial": trial.trial},
        ...cells.map((cell, at) =>
          make(
            "td",
            {class: at === 3 ? "n" : at === 2 ? "mono" : null},
            cell instanceof Node ? cell : typeof cell === "number" ? number(cell) : (cell ?? "–"),
          ),
        ),
      );
    };
    const columns = [
      "",
      "",
      "trial",
      metric,
      "best at",
      "status",
      ...data.axes.map((axis) => axis.name),
      "device time",
    ];
    const body = make("tbody", {}, ...data.trials.slice(0, FIRST).map(row)),
      rest = data.trials.length - FIRST;
    const more = make(
      "button",
      {
        type: "button",
        on: {
          click: () => {
            body.append(...data.trials.slice(FIRST).map((trial, i) => row(trial, FIRST + i)));
            more.remove();
            select(selected);
          },
        },
      },
      `Show the other ${rest}`,
    );
    return make(
      "section",
      {class: "card long"},
      make("h2", {}, "Trials"),
      make(
        "p",
        {class: "caption"},
        "Best first. ◆ is the best; ≈ marks trials that this sweep cannot tell from it, as far as they trained. “show” highlights a trial in all charts.",
      ),
      make(
        "div",
        {class: "scroll", tabindex: 0},
        make(
          "table",
          {},
          make(
            "thead",
            {},
            make(
              "tr",
              {},
              ...columns.map((name, i) =>
                make("th", {scope: "col", class: i === 3 ? "n" : null}, name),
              ),
            ),
          ),
          body,
        ),
        rest > 0 ? more : null,
      ),
    );
  }

  function whatRan() {
    const {ran} = data,
      entries = [
        ["commit", ran.commit ?? "none: the space was not in a repository"],
        ["devices", ran.devices ?? "not recorded"],
        ["started", ran.started ? `${date(ran.started)} by ${ran.user}` : "–"],
        ...(ran.resumed ? [["resumed", `${ran.resumed} time${ran.resumed > 1 ? "s" : ""}`]] : []),
        [
          "versions",
          Object.entries(ran.versions)
            .map(([name, version]) => `${name} ${version}`)
            .join(", "),
        ],
      ];
    return make(
      "section",
      {class: "card long"},
      make("h2", {}, "What ran"),
      make(
        "p",
        {class: "caption"},
        ran.repeat
          ? "The command that started it, and the one that repeats it."
          : "What started it, in Python. Its space has no file, so it cannot be repeated from its record.",
      ),
      make("pre", {}, ran.command),
      ...(ran.repeat ? [make("pre", {}, ran.repeat)] : []),
      make(
        "dl",
        {},
        ...entries.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
      ),
      behind(["definition", "value"], () => Object.entries(ran.definition), "The definition"),
    );
  }

  // Several sweeps.

  const TONES = ["finished", "failed", "other", "start", "best", "gap", "muted"];
  const DASHES = ["solid", "dashed", "dotted"];

  function drawComparison() {
    const {sweeps} = data,
      unit = unitOf(Math.max(...sweeps.map((one) => one.best_so_far.used_s)));
    const tone = (i) => TONES[i % TONES.length];
    const option = () => ({
      grid: grid(),
      tooltip: tip(
        (params) =>
          `<b>${escaped(params.seriesName)}</b><br>${escaped(params.data.trial)}: ${number(params.value[1])}<br>after ${hours(params.value[0] * unit.s)}`,
      ),
      xAxis: across(`device-${unit.name}`, {type: "value", min: 0}),
      yAxis: upwards(data.metric),
      series: sweeps.map((one, i) => ({
        type: "line",
        name: one.sweep,
        step: "end",
        symbolSize: 8,
        showSymbol: true,
        color: css(tone(i)),
        lineStyle: {width: 3, type: DASHES[Math.floor(i / TONES.length) % 3]},
        data: [
          ...one.best_so_far.steps.map((step) => ({
            value: [step.used_s / unit.s, step.value],
            trial: step.trial,
          })),
          ...one.best_so_far.steps
            .slice(-1)
            .map((step) => ({
              value: [one.best_so_far.used_s / unit.s, step.value],
              trial: step.trial,
              symbol: "none",
            })),
        ],
      })),
    });
    const rows = (names, cells) =>
      names.map((name) => [name, ...sweeps.map((one) => cells(one, name))]);
    const differing = data.differences.map(([name, values]) => [
      name,
      ...values.map((value) => value ?? "–"),
    ]);
    const facts = {
      best: (one) => number(one.answer.winner?.mean, data.digits),
      "95 % interval": (one) =>
        one.interval ? one.interval.map((x) => number(x)).join(" to ") : "–",
      trial: (one) => one.answer.winner?.trial ?? "–",
      confirmed: (one) => one.verdict ?? "–",
      status: (one) => one.answer.status,
      "device time": (one) => hours(one.answer.device_s),
      trials: (one) => String(sum(Object.values(one.answer.trials))),
      ...Object.fromEntries(
        data.params.map((key) => [
          key,
          (one) => {
            const value = one.answer.winner?.params[key];
            return value === undefined
              ? "–"
              : typeof value === "number"
                ? number(value)
                : String(value);
          },
        ]),
      ),
    };
    page.append(
      make(
        "header",
        {},
        make("h1", {}, `${sweeps.length} sweeps by ${data.metric}`),
        make("span", {class: "when"}, `as of ${date(data.made)}`),
      ),
      make(
        "section",
        {class: "card hero"},
        make("ol", {}, ...data.sentences.map((text) => make("li", {}, text))),
      ),
      card(
        "Best so far over device time",
        "Each step is a trial that became the best of its sweep.",
        picture(
          `Best ${data.metric} so far of ${sweeps.length} sweeps over device-${unit.name}`,
          option,
          "tall",
        ),
        legend(...sweeps.map((one, i) => [one.sweep, tone(i), i < TONES.length ? "line" : "dash"])),
        behind(["sweep", "trial", data.metric, `device-${unit.name}`], () =>
          sweeps.flatMap((one) =>
            one.best_so_far.steps.map((step) => [
              one.sweep,
              step.trial,
              step.value,
              step.used_s / unit.s,
            ]),
          ),
        ),
      ),
      card(
        "Winners side by side",
        null,
        make(
          "div",
          {class: "scroll", tabindex: 0},
          table(
            ["", ...sweeps.map((one) => one.sweep)],
            rows(Object.keys(facts), (one, name) => facts[name](one)),
          ),
        ),
      ),
      card(
        "What differs",
        differing.length
          ? "Everything else in their definitions and versions is equal."
          : "Nothing in their definitions and versions.",
        differing.length
          ? make(
              "div",
              {class: "scroll", tabindex: 0},
              table(["", ...sweeps.map((one) => one.sweep)], differing),
            )
          : null,
      ),
    );
  }

  if (data.kind === "comparison") {
    drawComparison();
  } else {
    drawSweep();
  }
  pictures.forEach((one) => watch.observe(one.box));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", anew);
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    pictures.forEach((one) => {
      one.chart?.clear();
      draw(one);
      one.chart.resize({width: Math.min(one.box.clientWidth, 680)});
    });
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    pictures.forEach((one) => one.chart?.resize({width: "auto"}));
    anew();
  });
})();
