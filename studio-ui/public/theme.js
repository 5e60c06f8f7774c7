// Before the first paint: the theme and the language that were chosen last time, so that nothing flashes.
(function () {
  try {
    var theme = localStorage.getItem("impasto.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    var language = localStorage.getItem("impasto.language") || (navigator.language || "en").slice(0, 2);
    document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  } catch (error) {
    // Storage is closed to this page: the system's theme and language are used.
  }
})();
