/* Rialto in the storefront: asks for an offer, draws it, reports what became of it. ES2018, no dependency.
 * The shop never waits for it and never breaks by it: whatever fails ends in the control, an empty slot. */
(function (root) {
  "use strict";
  const NOTHING = { decision_id: null, experiment: null, variant: null, offer: { kind: "none" }, reason: "fallback" };
  const exposed = new Set(); // decisions whose exposure this page has reported
  let settings = {};
  let memoryId = null; // stands in where storage is forbidden: lasts as long as the page

  function init(options) {
    settings = Object.assign({}, options);
    settings.url = String(settings.url || "").replace(/\/+$/, "");
  }

  function visitorId() {
    if (settings.unitId) return String(settings.unitId);
    try {
      const stored = root.localStorage.getItem("rialto.visitor") || memoryId || uuid();
      root.localStorage.setItem("rialto.visitor", stored);
      memoryId = stored;
    } catch (error) {
      memoryId = memoryId || uuid();
    }
    return memoryId;
  }

  /* Resolves, always, to {decisionId, experiment, variant, offer, reason, click, accept, decline}. */
  async function offer(touchpoint, target, options) {
    const wanted = options || {};
    let element = null;
    try {
      element = typeof target === "string" ? root.document.querySelector(target) : target;
    } catch (error) { /* a bad selector finds no slot */ }
    // Without a slot nothing can be shown, so nobody is enrolled either.
    const handle = handleOf(element ? await decide(touchpoint, wanted) : NOTHING);
    if (!element) return handle;
    try {
      element.textContent = "";
      if (handle.offer.kind !== "none") (wanted.render || drawOffer)(element, handle.offer, handle, wanted);
      whenVisible(element, handle.expose); // control too: here its slot would have been drawn
    } catch (error) {
      element.textContent = "";
    }
    return handle;
  }

  async function decide(touchpoint, wanted) {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), wanted.timeout || 300);
    try {
      const id = visitorId();
      const answer = await fetch(settings.url + "/v1/assign", {
        method: "POST", credentials: "omit", signal: abort.signal,
        headers: { "Content-Type": "application/json", Authorization: "Bearer " + settings.key },
        body: JSON.stringify(Object.assign(
          { touchpoint: touchpoint, experiment: wanted.experiment, context: wanted.context },
          settings.unitId ? { unit_id: id } : { ids: { visitor: id } })),
      });
      const decision = answer.status === 200 ? await answer.json() : NOTHING;
      return decision && decision.offer && decision.offer.kind ? decision : NOTHING;
    } catch (error) {
      return NOTHING; // no retry: the shopper has waited long enough
    } finally {
      clearTimeout(timer);
    }
  }

  function handleOf(decision) {
    const id = decision.decision_id;
    return {
      decisionId: id, experiment: decision.experiment, variant: decision.variant,
      offer: decision.offer, reason: decision.reason,
      expose: () => { if (!exposed.has(id)) { exposed.add(id); report(id, "exposure"); } },
      click: once(() => report(id, "click")),
      accept: once(() => report(id, "accept")),
      decline: once((reason) => report(id, "decline", typeof reason === "string" ? { reason: reason } : {})),
    };
  }

  /* No occurred_at: a shopper's clock may be wrong, the server's is the truth. */
  function report(decisionId, type, more) {
    if (!decisionId) return; // what was not recorded has no outcome
    try {
      const url = settings.url + "/v1/events?key=" + encodeURIComponent(settings.key);
      const body = JSON.stringify(Object.assign({ event_id: uuid(), type: type, decision_id: decisionId }, more));
      if (root.navigator.sendBeacon && root.navigator.sendBeacon(url, body)) return;
      const plain = { "Content-Type": "text/plain" }; // as a beacon's: needs no preflight
      fetch(url, { method: "POST", body: body, keepalive: true, credentials: "omit", headers: plain }).catch(() => {});
    } catch (error) { /* a lost event is better than a broken page */ }
  }

  function whenVisible(element, then) {
    if (!root.IntersectionObserver) return then();
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting && entry.intersectionRatio >= 0.5)) return;
      observer.disconnect();
      then();
    }, { threshold: 0.5 });
    observer.observe(element);
  }

  /* textContent only: a headline is text, whoever wrote it. */
  function drawOffer(element, shown, handle, wanted) {
    const texts = Object.assign({ accept: "Add to order", decline: "No, thanks" }, wanted.texts);
    const box = child(element, "div", "rialto-offer", "");
    if (shown.headline) child(box, "strong", "rialto-headline", shown.headline);
    if (shown.benefit) child(box, "p", "rialto-benefit", shown.benefit);
    if (settings.currency && Number.isInteger(shown.price)) child(box, "span", "rialto-price", money(shown.price));
    const accept = child(box, "button", "rialto-accept", texts.accept);
    const decline = child(box, "button", "rialto-decline", texts.decline);
    box.addEventListener("click", handle.click);
    accept.addEventListener("click", () => {
      accept.disabled = decline.disabled = true;
      handle.accept();
      if (wanted.onAccept) wanted.onAccept(shown, handle);
    });
    decline.addEventListener("click", (event) => {
      event.stopPropagation(); // turning an offer down is not a click on it
      element.textContent = "";
      handle.decline();
      if (wanted.onDecline) wanted.onDecline(shown, handle);
    });
  }

  function child(parent, tag, className, text) {
    const made = root.document.createElement(tag);
    made.className = className;
    made.textContent = text;
    if (tag === "button") made.type = "button";
    return parent.appendChild(made);
  }

  function money(minor) {
    const format = new Intl.NumberFormat(undefined, { style: "currency", currency: settings.currency });
    return format.format(minor / Math.pow(10, format.resolvedOptions().maximumFractionDigits));
  }

  function once(act) {
    let done = false;
    return (argument) => { if (!done) { done = true; act(argument); } };
  }

  function uuid() {
    if (root.crypto && root.crypto.randomUUID) return root.crypto.randomUUID();
    const bytes = root.crypto.getRandomValues(new Uint8Array(16)); // plain http: no randomUUID there
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  root.Rialto = Object.freeze({ init: init, offer: offer, visitorId: visitorId });
})(window);
