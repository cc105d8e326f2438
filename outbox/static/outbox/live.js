/* Keeps what is looked at up to date: each element with data-outbox-live is read anew, from the
   address that it names, every data-outbox-every seconds. Without this script the page is as it was
   when it was loaded. What has data-outbox-lazy is read for the first time now. It stops while the
   page is hidden or paused, and asks less often while the server gives no answer. */
"use strict";
(() => {
  const MOST = 60;
  let pause = null;

  const busy = (element) => {
    const active = document.activeElement;
    const selection = document.getSelection();
    return (
      (active && active !== document.body && element.contains(active)) ||
      (selection && !selection.isCollapsed && element.contains(selection.anchorNode)) ||
      element.querySelector("details[open]") !== null
    );
  };

  const isLazy = (element) => element.dataset.outboxLazy !== undefined;

  const follow = (id) => {
    let failures = 0;
    const again = () => {
      const element = document.getElementById(id);
      if (!element || !element.dataset.outboxLive) return;  // it is gone, or nothing changes any more
      const every = isLazy(element) ? 1 : Number(element.dataset.outboxEvery) || 10;
      setTimeout(read, 1000 * Math.min(MOST, every * 2 ** failures));
    };
    const read = async () => {
      const element = document.getElementById(id);
      if (!element) return;
      if (document.hidden || pause.checked || busy(element)) return again();
      try {
        const response = await fetch(element.dataset.outboxLive, {
          credentials: "same-origin",
          redirect: "error",
          headers: { "X-Requested-With": "XMLHttpRequest" },
        });
        if (!response.ok) throw new Error(String(response.status));
        const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
        const fresh = parsed.getElementById(id);
        if (!fresh) throw new Error("no " + id);
        if (!busy(element)) element.replaceWith(fresh);
        failures = 0;
      } catch {
        failures = Math.min(failures + 1, 6);
      }
      again();
    };
    if (isLazy(document.getElementById(id))) read();
    else again();
  };

  document.addEventListener("DOMContentLoaded", () => {
    pause = document.querySelector("[data-outbox-pause]");
    const all = document.querySelectorAll("[data-outbox-live]");
    if (!all.length || !pause) return;
    pause.closest("label").hidden = false;
    all.forEach((element) => follow(element.id));
  });
})();
