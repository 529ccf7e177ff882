// What the page does in the browser alone: the theme, the keys, and a greeting that says what the server cannot know.
(() => {
  const KEY = "subgpt-theme";
  const THEMES = ["system", "dark", "light"];
  let theme = "system";
  try {
    theme = THEMES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "system";
  } catch {} // storage may be forbidden: then the system's theme it is

  const isDark = () => document.body.classList.contains("body--dark");
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    if (window.Quasar) Quasar.Dark.set(theme === "system" ? "auto" : theme === "dark");
  };
  const greet = (tab) => emitEvent("hello", { dark: isDark(), tab });

  window.subgptNextTheme = () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {}
    apply();
  };

  document.documentElement.dataset.theme = theme;
  window.addEventListener("load", () => {
    apply();
    greet(location.hash.slice(1));
    new MutationObserver(() => greet(null)).observe(document.body, { attributeFilter: ["class"] });
    window.addEventListener("hashchange", (event) => greet(new URL(event.newURL).hash.slice(1)));
  });

  // A button that vanishes under the keyboard's focus leaves it to the one in its place.
  window.subgptKeepFocus = (id) =>
    setTimeout(() => {
      if (document.activeElement === document.body) document.getElementById(id)?.focus({ preventScroll: true });
    }, 50);

  // Browsers offer the clipboard to pages of https and localhost; elsewhere an old way may still do.
  window.subgptCopy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {}
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  const press = (selector) => {
    const found = [...document.querySelectorAll(selector)].find((b) => b.offsetParent !== null && !b.disabled);
    found?.click();
    return found !== undefined;
  };
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const field = event.target instanceof Element ? event.target.closest("[data-enter]") : null;
    const plain = field?.dataset.enter === "plain" && !event.shiftKey;
    const enter = event.key === "Enter" && (event.ctrlKey || event.metaKey || plain);
    if ((enter && press("[data-run]")) || (event.key === "Escape" && press("[data-stop]"))) event.preventDefault();
  });
})();
