"use strict";
(() => {
  const root = document.documentElement;
  const chips = [...document.querySelectorAll(".chips button")];
  const status = document.querySelector(".status");
  let picked = null;

  function pick(number) {
    picked = number === picked ? null : number;
    for (const part of document.querySelectorAll("[data-keys]")) {
      const keys = part.dataset.keys.split(" ");
      part.classList.toggle("dim", picked !== null && !keys.includes(picked));
    }
    for (const chip of chips) {
      chip.setAttribute("aria-pressed", String(chip.dataset.pick === picked));
      chip.classList.toggle("dim", picked !== null && chip.dataset.pick !== picked);
    }
    const chip = chips.find((each) => each.dataset.pick === picked);
    status.textContent = chip ? `${chip.textContent} is highlighted` : "nothing is highlighted";
  }

  document.addEventListener("click", (event) => {
    const part = event.target.closest("[data-pick]");
    if (part) pick(part.dataset.pick);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && picked !== null) pick(picked);
  });
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });
})();
