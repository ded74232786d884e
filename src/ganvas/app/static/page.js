// Keys for undo and redo, the picture before all edits while the picture or a key is held, names of Gradio's own sliders,
// and numbers that are out of range.
(() => {
  "use strict";
  const isTyping = (target) =>
    target.closest?.("textarea, [contenteditable=true], input:not([type=range], [type=checkbox], [type=radio])");

  // Ctrl+Z and Ctrl+Shift+Z, except where they undo what is typed.
  document.addEventListener("keydown", (event) => {
    if (event.key === "o" && !event.ctrlKey && !event.metaKey && !event.altKey && !isTyping(event.target)) hold(true);
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "z") return;
    if (event.target.closest?.("textarea, [contenteditable=true], input:is([type=text], [type=search])")) return;
    event.preventDefault();
    document.getElementById(event.shiftKey ? "redo" : "undo")?.click();
  });
  document.addEventListener("keyup", (event) => { if (event.key === "o") hold(false); });

  // The picture before all edits lies over the picture, hidden.
  function hold(isHeld) {
    document.getElementById("canvas")?.classList.toggle("gv-holding", isHeld);
  }
  document.addEventListener("pointerdown", (event) => {
    if (event.target.closest?.("#picture .image-frame, #hold")) hold(true);
  });
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => hold(false));
  document.addEventListener("dragstart", (event) => { if (event.target.closest?.("#picture")) event.preventDefault(); });
  document.addEventListener("contextmenu", (event) => { if (document.querySelector(".gv-holding")) event.preventDefault(); });

  // Gradio calls a slider "range slider for Smile", and its field "number input for Smile".
  const PREFIXES = [["range slider for ", ""], ["number input for ", " as a number"]];
  function nameFields() {
    for (const field of document.querySelectorAll("input[aria-label]")) {
      for (const [prefix, suffix] of PREFIXES) {
        const name = field.getAttribute("aria-label");
        if (name.startsWith(prefix)) field.setAttribute("aria-label", name.slice(prefix.length) + suffix);
      }
    }
  }
  let isWaiting = false;
  new MutationObserver(() => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => { isWaiting = false; nameFields(); });
  }).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ["aria-label"] });

  // A slider's number that is empty or out of range is no change: it is put right once it is entered.
  function findRange(field) {
    // Other numbers, as a seed, have no slider of their own.
    if (!/^number input for | as a number$/.test(field.getAttribute?.("aria-label") ?? "")) return null;
    return field.closest(".gv-slider, .wrap")?.querySelector("input[type=range]") ?? null;
  }
  function isRefused(field) {
    return field.value === "" || +field.value < +field.min || +field.value > +field.max;
  }
  function showNotice(text) {
    document.querySelector(".gv-notice")?.remove();
    const notice = document.createElement("p");
    notice.className = "gv-notice";
    notice.setAttribute("role", "alert");
    notice.textContent = text;
    document.body.append(notice);
    setTimeout(() => notice.remove(), 8000);
  }
  document.addEventListener("input", (event) => {
    if (findRange(event.target) && isRefused(event.target)) event.stopImmediatePropagation();
  }, true);
  function correctNumber(event) {
    const field = event.target, range = findRange(field);
    if (!range || !isRefused(field)) return;
    const name = range.getAttribute("aria-label"), bounds = `${name} goes from ${field.min} to ${field.max}`;
    if (field.value === "") {
      field.value = range.value;
      showNotice(`${bounds}: the empty field was put back to ${field.value}.`);
    } else {
      const bound = +field.value < +field.min ? field.min : field.max;
      showNotice(`${bounds}: ${field.value} was put back to ${bound}.`);
      field.value = bound;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }
  document.addEventListener("change", correctNumber, true);
  document.addEventListener("blur", correctNumber, true);
})();
