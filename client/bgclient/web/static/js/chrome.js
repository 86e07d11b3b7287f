// What every page has: language and light or dark.

import { currentLanguage, speak } from "./strings.js";
import { keep, recall } from "./store.js";

export function dress(onLanguage = () => {}) {
  const language = document.getElementById("language");
  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const say = (code) => {
    speak(code);
    language.textContent = code === "zh" ? "English" : "中文";
    language.lang = code === "zh" ? "en" : "zh";
    onLanguage();
  };
  const paint = () => {
    const chosen = recall("theme");
    if (chosen) document.documentElement.dataset.theme = chosen;
    theme.setAttribute("aria-pressed", String(chosen ? chosen === "dark" : dark.matches));
  };
  language.addEventListener("click", () => {
    const next = currentLanguage() === "zh" ? "en" : "zh";
    keep("language", next);
    say(next);
  });
  theme.addEventListener("click", () => {
    keep("theme", theme.getAttribute("aria-pressed") === "true" ? "light" : "dark");
    paint();
  });
  dark.addEventListener("change", paint);
  paint();
  say(recall("language") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
}
