/* Goes on with what is done in steps, as the button on the page would. It stops when the page has no
   such button any more, or when it is paused. Without this script one clicks at the button. */
"use strict";
(() => {
  const AFTER = 1000;
  const goOn = () => {
    const paused = document.querySelector("[data-outbox-pause]");
    const form = document.querySelector("form[data-outbox-go-on]");
    if (form && !(paused && paused.checked)) form.requestSubmit();
    else setTimeout(goOn, AFTER);
  };
  setTimeout(goOn, AFTER);
})();
