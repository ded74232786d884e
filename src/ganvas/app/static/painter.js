// Paints where edits may change the picture. `element`, `props` and `trigger` are Gradio's. A click on "Paint …" begins; "Done"
// sends {mask}, the painted place as a PNG with its alpha channel. A click into the picture sends {point}.
const BRUSH_SHARE = 0.06, LONGER_SIDE = 256;
const box = document.getElementById("canvas"), paper = element.querySelector("canvas"), ink = paper.getContext("2d");
let last = null;

function begin() {
  const image = document.querySelector("#picture img");
  if (!image) return;
  box.classList.add("gv-painting");
  const { naturalWidth: width, naturalHeight: height } = image, scale = LONGER_SIDE / Math.max(width, height);
  [paper.width, paper.height] = [Math.round(width * scale), Math.round(height * scale)];
  // Over the picture itself, which lies in the middle of its frame.
  const frame = image.getBoundingClientRect(), origin = element.offsetParent.getBoundingClientRect();
  const shown = Math.min(frame.width / width, frame.height / height);
  Object.assign(paper.style, {
    width: `${shown * width}px`, height: `${shown * height}px`,
    left: `${frame.left - origin.left + (frame.width - shown * width) / 2}px`,
    top: `${frame.top - origin.top + (frame.height - shown * height) / 2}px`,
  });
}

function place(event) {
  const frame = paper.getBoundingClientRect(), scale = paper.width / frame.width;
  return [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
}

function paint(event) {
  const [x, y] = place(event);
  ink.lineWidth = 2 * BRUSH_SHARE * LONGER_SIDE;
  ink.lineCap = ink.lineJoin = "round";
  ink.strokeStyle = "#fff";
  ink.beginPath();
  ink.moveTo(...(last ?? [x, y]));
  ink.lineTo(x, y);
  ink.stroke();
  last = [x, y];
}

paper.addEventListener("pointerdown", (event) => { paper.setPointerCapture(event.pointerId); last = null; paint(event); });
paper.addEventListener("pointermove", (event) => { if (event.buttons) paint(event); });
element.addEventListener("click", (event) => {
  const chosen = event.target.closest("button")?.dataset.painter;
  if (chosen === "clear") ink.clearRect(0, 0, paper.width, paper.height);
  if (chosen === "done" || chosen === "cancel") box.classList.remove("gv-painting");
  if (chosen === "done") {
    props.value = { mask: paper.toDataURL("image/png") };
    trigger("input");
  }
});
document.addEventListener("click", (event) => { if (event.target.closest?.("#paint")) begin(); });

// A short click into the picture sends {point}, in shares of its sides: what is held longer shows the original.
const CLICK_MS = 300, CLICK_PIXELS = 6;
let pressed = null;
document.addEventListener("pointerdown", (event) => {
  pressed = event.target.closest?.("#picture .image-frame") && event.button === 0 ? event : null;
});
document.addEventListener("pointerup", (event) => {
  const began = pressed, image = document.querySelector("#picture .image-frame img");
  pressed = null;
  if (!began || !image || event.timeStamp - began.timeStamp > CLICK_MS) return;
  if (Math.hypot(event.clientX - began.clientX, event.clientY - began.clientY) > CLICK_PIXELS) return;
  const frame = image.getBoundingClientRect(), { naturalWidth: width, naturalHeight: height } = image;
  const shown = Math.min(frame.width / width, frame.height / height);
  const point = [(event.clientX - frame.left - (frame.width - shown * width) / 2) / (shown * width),
    (event.clientY - frame.top - (frame.height - shown * height) / 2) / (shown * height)];
  if (point.some((share) => share < 0 || share > 1)) return;
  props.value = { point };
  trigger("input");
});
