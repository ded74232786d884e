// Faces to mark. `element`, `props`, `trigger` and `watch` are Gradio's. The server sends faces as the value; "Make the slider"
// sends {name, positive, negative}, the rows of the marked ones.
const faces = element.querySelector(".gv-choices"), count = element.querySelector(".gv-own-count");
const MARKS = ["", "has it", "lacks it"];
let generator = "";

function list(mark) {
  return [...faces.querySelectorAll(`[data-mark="${mark}"]`)].map((face) => +face.dataset.row);
}

function draw(face) {
  const mark = MARKS[+face.dataset.mark];
  face.lastChild.textContent = mark || "–";
  face.setAttribute("aria-label", `Face ${+face.dataset.row + 1}: ${mark || "not marked"}`);
  count.textContent = `${list(1).length} have it, ${list(2).length} lack it.`;
}

function show() {
  if (!props.value?.faces) return;
  if (props.value.generator !== generator) faces.replaceChildren();
  generator = props.value.generator;
  for (const { row, url } of props.value.faces) {
    if (faces.querySelector(`[data-row="${row}"]`)) continue;
    const face = document.createElement("button"), image = document.createElement("img");
    Object.assign(face, { type: "button" });
    Object.assign(face.dataset, { row, mark: 0 });
    Object.assign(image, { src: url, alt: "" });
    face.append(image, document.createElement("span"));
    faces.append(face);
    draw(face);
  }
}

element.addEventListener("click", (event) => {
  const face = event.target.closest("[data-row]");
  if (face) {
    face.dataset.mark = (+face.dataset.mark + 1) % MARKS.length;
    draw(face);
  }
  if (!event.target.closest(".gv-own-make")) return;
  props.value = { name: element.querySelector("input").value, positive: list(1), negative: list(2) };
  trigger("input");
});
watch("value", show);
show();
