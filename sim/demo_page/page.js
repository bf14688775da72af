/* The shop's own page: it works without Rialto, and shows an offer when there is one. */
(async function () {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const config = await (await fetch("/config.json")).json();
  const cart = config.cart.slice();
  let handle = null;
  let taken = false;

  const format = new Intl.NumberFormat("en", { style: "currency", currency: config.currency });
  const digits = format.resolvedOptions().maximumFractionDigits;
  const money = (minor) => format.format(minor / Math.pow(10, digits));

  function row(name, price) {
    const line = byId("cart").insertRow();
    line.appendChild(document.createElement("th")).textContent = name;
    line.appendChild(document.createElement("td")).textContent = money(price);
  }

  function drawCart() {
    byId("cart").textContent = "";
    cart.forEach((item) => row(item.name, item.price));
    byId("total").textContent = money(cart.reduce((sum, item) => sum + item.price, 0));
  }

  function take(offer) {
    taken = true;
    if (offer.kind === "upsell") cart.shift(); // the better version takes the place of the shoe
    cart.push({ name: offer.headline, price: offer.price });
    drawCart();
  }

  async function order() {
    byId("order").disabled = true;
    const body = JSON.stringify({ visitor: window.Rialto ? Rialto.visitorId() : null, taken: taken && handle.variant });
    try {
      const answer = await fetch("/order", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      byId("message").textContent = (await answer.json()).message;
    } catch (error) {
      byId("message").textContent = "The shop did not answer: try again.";
      byId("order").disabled = false;
    }
  }

  drawCart();
  byId("order").addEventListener("click", order);
  byId("fresh").addEventListener("click", () => { localStorage.clear(); location.reload(); });

  if (!window.Rialto) return;
  Rialto.init({ url: config.url, key: config.key, currency: config.currency });
  handle = await Rialto.offer(config.touchpoint, "#offer-slot", {
    experiment: config.experiment,
    timeout: config.timeout,
    context: { cart: cart.map((item) => ({ sku: item.sku, price: item.price, quantity: 1 })), device: "desktop" },
    texts: { accept: "Yes, add it" },
    onAccept: take,
  });
  byId("decision").textContent = (handle.variant || "no variant") + " (" + handle.reason + ")";
})();
