// The panel of sliders. `element`, `props`, `trigger` and `watch` are Gradio's. The server sends groups of sliders as the value, in one text;
// a slider that moves sends {name, value, number} as the value, and null as its value resets it. One without a name has small
// pictures of less and more of it, and sends {name, label} once it is named.
const panel = element.querySelector(".gv-panel");
const search = element.querySelector("input[type=search]");
const more = element.querySelector(".gv-more input");
const none = element.querySelector(".gv-none");
let sliders = new Map(), layout = "", sent = 0, held = "", move = null;

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function makeStrip(slider) {
  return make("div", { class: "gv-strip" }, ...["−", "0", "+"].map((sign, i) =>
    make("button", { type: "button", "data-at": i - 1, "aria-label": `${slider.label}: ${["less", "as it was", "more"][i]}` },
      make("img", { alt: "" }), make("span", {}, sign))));
}

function makeNaming(slider) {
  return make("div", { class: "gv-naming" }, make("input", { type: "text", maxlength: 40, placeholder: "Its name",
    "aria-label": `A name for ${slider.label}` }), make("button", { type: "button", class: "gv-name" }, "Save"));
}

function build(groups) {
  sliders = new Map();
  panel.replaceChildren(...groups.map((group) => {
    const rows = group.sliders.map((slider) => {
      const scale = { min: slider.low, max: slider.high, step: slider.step };
      const id = (slider.unnamed ? "explored-" : "") + slider.name;
      const range = make("input", { type: "range", id: `slide-${id}`, "aria-label": slider.label, ...scale });
      const field = make("input", { type: "number", "aria-label": `${slider.label} as a number`, ...scale });
      const reset = make("button", { type: "button", class: "gv-reset", title: "Back to the start",
        "aria-label": `${slider.label} back to the start` }, "↺");
      const row = make("div", { class: "gv-slider", id: `slider-${id}`, "data-name": slider.name },
        make("div", { class: "gv-head" }, make("label", { for: `slide-${id}` }, slider.label), reset, field),
        ...(slider.unnamed ? [makeStrip(slider)] : []),
        make("div", { class: "gv-track" }, make("i", { class: "gv-start", title: "Where this picture began" }), range),
        slider.unnamed ? makeNaming(slider) : make("div", { class: "gv-ends", "aria-hidden": "true" },
          make("span", {}, slider.less), make("span", {}, slider.more)));
      sliders.set(slider.name, { row, range, field, slider });
      return row;
    });
    const details = make("details", { class: "gv-group" }, make("summary", {}, group.name), ...rows);
    details.open = group.open;
    return details;
  }));
}

function draw(name) {
  const { row, range, slider } = sliders.get(name);
  const place = (value) => (value - slider.low) / (slider.high - slider.low);
  const value = +range.value, ends = [slider.start, value].sort((a, b) => a - b);
  const [low, high] = slider.reach.length ? slider.reach : [slider.low, slider.high];
  const places = { start: place(slider.start), from: place(ends[0]), to: place(ends[1]), low: place(low), high: place(high) };
  for (const [key, share] of Object.entries(places)) row.style.setProperty(`--${key}`, share.toFixed(4));
  row.classList.toggle("gv-changed", slider.changed);
  const side = value === slider.start ? "as it was" : value > slider.start ? slider.more : slider.less;
  range.setAttribute("aria-valuetext", `${value}${slider.unit ? ` ${slider.unit}` : ""}, ${side}`);
}

function show() {
  const value = props.value;
  if (!value || !value.groups) return;
  const groups = JSON.parse(value.groups);
  sent = Math.max(sent, value.number); // there are two panels
  const wanted = JSON.stringify(groups.map((group) => [group.name,
    group.sliders.map((slider) => [slider.name, slider.label, slider.low, slider.high, slider.step])]));
  if (wanted !== layout) {
    layout = wanted;
    build(groups);
  }
  for (const slider of groups.flatMap((group) => group.sliders)) {
    const known = sliders.get(slider.name);
    known.slider = slider;
    known.row.querySelectorAll(".gv-strip img").forEach((image, i) => { if (slider.strip) image.src = slider.strip[i]; });
    // A slider that moved since the server drew this is further than the server knows.
    if (slider.name !== held && value.number >= sent) {
      known.range.value = slider.value;
      if (document.activeElement !== known.field) known.field.value = slider.value;
    }
    draw(slider.name);
  }
  filter();
  // A move that waits to be sent is the value still.
  if (move && value.number < sent) props.value = move;
}

function filter() {
  const words = search.value.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  let found = 0, rare = 0;
  for (const details of panel.children) {
    let visible = 0;
    for (const row of details.querySelectorAll(".gv-slider")) {
      const { slider } = sliders.get(row.dataset.name);
      const known = slider.search.match(/[\p{L}\p{N}]+/gu) ?? [];
      const matches = words.every((word) => known.some((each) => each.startsWith(word)));
      const hidden = slider.rare && !slider.changed && !more.checked && !words.length;
      row.hidden = !matches || hidden;
      visible += !row.hidden;
      rare += slider.rare;
    }
    details.hidden = !visible;
    if (words.length) details.open = true;
    found += visible;
  }
  more.parentElement.hidden = !rare;
  search.parentElement.hidden = !sliders.size;
  none.hidden = found > 0 || !sliders.size;
}

function send(name, value) {
  sent += 1;
  props.value = move = { name, value, number: sent };
  trigger("input");
}

element.addEventListener("input", (event) => {
  const name = event.target.closest(".gv-slider")?.dataset.name;
  if (!name) return event.target === search || event.target === more ? filter() : undefined;
  if (event.target.type === "text") return;
  const { range, field, slider } = sliders.get(name);
  if (event.target === range) field.value = range.value;
  else if (field.value === "") return;
  else range.value = field.value;
  moveTo(slider, +range.value);
});
function moveTo(slider, value) {
  slider.changed = true;
  draw(slider.name);
  send(slider.name, value);
}
element.addEventListener("click", (event) => {
  const name = event.target.closest(".gv-slider")?.dataset.name, picture = event.target.closest(".gv-strip [data-at]");
  if (picture) {
    const { range, field, slider } = sliders.get(name), at = +picture.dataset.at;
    range.value = slider.start + at * slider.by;
    field.value = range.value;
    if (at) moveTo(slider, +range.value);
    else resetSlider(name);
  }
  if (!event.target.closest(".gv-name")) return;
  props.value = { name, label: event.target.closest(".gv-naming").querySelector("input").value };
  trigger("submit");
});
element.addEventListener("dblclick", (event) => reset(event, "input[type=range]"));
element.addEventListener("click", (event) => reset(event, ".gv-reset"));
function reset(event, where) {
  const row = event.target.closest(where)?.closest(".gv-slider");
  if (row) resetSlider(row.dataset.name);
}
function resetSlider(name) {
  const { range, field, slider } = sliders.get(name);
  range.value = field.value = slider.start;
  slider.changed = false;
  draw(slider.name);
  send(slider.name, null);
}
element.addEventListener("pointerdown", (event) => {
  if (event.target.matches("input[type=range]")) held = event.target.closest(".gv-slider").dataset.name;
});
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { held = ""; });
watch("value", show);
show();
