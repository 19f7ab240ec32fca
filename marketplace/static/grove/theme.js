/* "auto" follows the system: runs before the first paint, and again when the system changes its mind. */
(function () {
  var root = document.documentElement;
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function follow() {
    if (root.dataset.theme === "auto") root.dataset.bsTheme = dark.matches ? "dark" : "light";
  }
  dark.addEventListener("change", follow);
  follow();
})();
