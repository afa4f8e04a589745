// Draws each document that the server sends. Elements are kept and changed, never made anew, so that focus and screen readers stay where they are.
"use strict";

const $ = (id) => document.getElementById(id);
let shown = null; // the latest document
let skew = 0; // the server's clock less this one, in seconds

function el(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, values) {
  for (const [key, value] of Object.entries(values)) if (element.dataset[key] !== value) element.dataset[key] = value;
}

// One child of `parent` for each item, in their order: made once, then updated.
function each(parent, items, key, make, update) {
  const seen = new Set();
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    let name = String(key(item));
    while (seen.has(name)) name += "+";
    seen.add(name);
    let child = old.get(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    old.delete(name);
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
    update(child, item);
  });
  for (const gone of old.values()) gone.remove();
}

const number = (value, digits, unit = "") => (value === null || value === undefined ? "–" : value.toFixed(digits) + unit);

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 90 ? `${whole} s` : whole < 5400 ? `${Math.round(whole / 60)} min` : `${(whole / 3600).toFixed(1)} h`;
}

function figures(parent, pairs) {
  each(
    parent,
    pairs,
    ([name]) => name,
    ([name]) => {
      const pair = el("div");
      pair.append(el("dt", "", name), el("dd"));
      return pair;
    },
    (pair, [, value]) => put(pair.lastChild, value),
  );
}

async function post(path, body) {
  try {
    const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return await response.json();
  } catch {
    return { problem: "the command that serves this page has ended" };
  }
}

async function act(body) {
  const answer = await post("/do", body);
  put($("done"), answer.problem ?? answer.done);
}

function button(text, label, body) {
  const made = el("button", "", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", () => act(body()));
  return made;
}

function makeRung(rung) {
  const item = el("li");
  const head = el("div", "row");
  const name = el("div");
  name.append(el("h3", "", rung.name), el("span", "quiet"));
  head.append(name);
  if (shown.controls) {
    const actions = el("div", "actions");
    actions.append(button("", "", () => ({ action: "stock", pool: rung.name, supply: item.dataset.supply === "in" ? "out" : "in" })));
    if (["spot", "preemptible"].includes(rung.provisioning)) actions.append(button("Preempt", `Preempt a node of ${rung.name}`, () => ({ action: "preempt", pool: rung.name })));
    head.append(actions);
  }
  item.append(head, el("div", "badges"), el("div", "nodes"), el("dl", "figures"));
  return item;
}

function updateRung(item, rung) {
  const [head, badges, nodes, numbers] = item.children;
  set(item, { main: rung.badges[0].kind, supply: rung.supply });
  put(head.firstChild.lastChild, [rung.machine, rung.provisioning, rung.usd_each === null ? "" : `${number(rung.usd_each, 2)} USD/h each`].filter(Boolean).join(" · "));
  const stock = head.querySelector("button");
  if (stock) {
    put(stock, rung.supply === "in" ? "Sell out" : "Restock");
    stock.setAttribute("aria-label", rung.supply === "in" ? `Sell ${rung.name} out` : `Restock ${rung.name}`);
  }
  each(badges, rung.badges, (badge) => badge.kind, () => el("span", "badge"), (badge, { kind, text }) => {
    set(badge, { kind });
    put(badge, text);
  });
  each(nodes, rung.nodes, (node) => node.name, () => {
    const row = el("div", "node");
    row.append(el("span"), el("span", "pods"), el("span", "quiet"));
    return row;
  }, (row, node) => {
    const [name, pods, says] = row.children;
    put(name, node.name);
    put(says, node.going ? "taken back" : !node.ready ? "not ready" : node.pods.length ? "" : "idle");
    each(pods, node.pods, (pod) => pod.name, (pod) => {
      const made = el("span", "pod");
      made.title = pod.name;
      made.append(el("span"));
      if (shown.controls) made.append(button("Hang", `Let the server of ${pod.short} hang`, () => ({ action: "hang", pod: pod.name })));
      return made;
    }, (made, pod) => {
      set(made, { state: pod.state });
      put(made.firstChild, `${pod.short} ${pod.state}`);
    });
  });
  figures(numbers, [
    ["requests/s", number(rung.requests, 1)],
    ["waiting", number(rung.queued, 0)],
    ["first token", number(rung.first_token, 2, " s")],
    ["USD an hour", number(rung.usd, 2)],
  ]);
}

function drawWays() {
  const now = Date.now() / 1000 + skew;
  const first = Math.min(...shown.ways.map((way) => way.segments[0].since), now - 60);
  const begin = Math.max(first, now - 600);
  const place = (at) => (100 * (Math.max(at, begin) - begin)) / (now - begin);
  put($("axis").firstElementChild, `${span(now - begin)} ago`);
  const ways = shown.ways.filter((way) => way.there || way.segments.at(-1).until > begin);
  each($("ways"), ways, (way) => way.pod, (way) => {
    const row = el("li");
    row.title = way.pod;
    const strip = el("div", "strip");
    strip.setAttribute("role", "img");
    row.append(el("span", "name", way.short), strip, el("span", "quiet"));
    return row;
  }, (row, way) => {
    const [, strip, says] = row.children;
    const until = (segment, index) => (way.there && index === way.segments.length - 1 ? now : segment.until);
    const words = way.segments.map((segment, index) => `${segment.state} ${span(until(segment, index) - segment.since)}`);
    row.classList.toggle("gone", !way.there);
    put(says, `${way.rung || "no rung yet"}: ${way.there ? words.at(-1) : "gone"}`);
    strip.setAttribute("aria-label", `Replica ${way.short}: ${words.join(", ")}${way.there ? "" : ", gone"}`);
    each(strip, way.segments.map((segment, index) => ({ ...segment, index })).filter((segment) => until(segment, segment.index) > begin), (segment) => segment.index, () => el("i"), (bar, segment) => {
      set(bar, { state: segment.state });
      bar.style.left = `${place(segment.since)}%`;
      bar.style.width = `${place(until(segment, segment.index)) - place(segment.since)}%`;
    });
  });
  each($("waiting"), shown.waiting, (one) => one.pod, () => {
    const item = el("li");
    item.append(el("b"), el("span"));
    return item;
  }, (item, one) => {
    put(item.firstChild, `${one.short} waits for a node, ${span(now - one.since)} so far. `);
    put(item.lastChild, one.why);
  });
}

function draw(next) {
  shown = next;
  skew = next.now - Date.now() / 1000;
  document.title = `${next.replicas.serving} of ${next.replicas.wanted ?? "?"} serve – ${next.title}`;
  put($("title"), next.title);
  put($("service"), next.service || "the service has no address yet");
  put($("note"), next.note);
  put($("connection"), next.notes.join("; "));
  figures($("totals"), [
    ["replicas serve", `${next.replicas.serving} of ${next.replicas.wanted ?? "?"}`],
    ["requests/s", number(next.total.requests, 1)],
    ["waiting", number(next.total.queued, 0)],
    ["first token", number(next.total.first_token, 2, " s")],
    ["USD an hour", number(next.total.usd, 2)],
  ]);
  $("scale").hidden = $("hint").hidden = !next.controls;
  put($("wanted"), String(next.replicas.wanted ?? 0));
  each($("rungs"), next.rungs, (rung) => rung.name, makeRung, updateRung);
  each($("events"), next.events.toReversed(), (event) => event.at + event.text, (event) => {
    const item = el("li");
    item.append(el("time", "", new Date(event.at * 1000).toLocaleTimeString("en-GB")), el("span", "", event.text));
    set(item, { tone: event.tone });
    return item;
  }, () => {});
  drawWays();
}

$("scale").addEventListener("click", ({ target }) => {
  if (!target.dataset.by) return;
  const replicas = Math.max(0, Number($("wanted").textContent) + Number(target.dataset.by));
  put($("wanted"), String(replicas));
  act({ action: "scale", replicas });
});

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = $("question").value.trim() || $("question").placeholder;
  const [send, answers] = [$("ask").querySelector("button"), $("answers")];
  $("question").value = "";
  send.disabled = true;
  answers.append(el("p", "mine", question));
  const answer = await post("/ask", { question });
  if (answer.problem) answers.append(el("p", "problem", answer.problem));
  else answers.append(el("p", "", answer.text), el("p", "who", `Answered by ${answer.who}; first token after ${number(answer.first_token, 2)} s, all after ${number(answer.seconds, 2)} s`));
  answers.scrollTop = answers.scrollHeight;
  send.disabled = false;
});

const events = new EventSource("/events");
events.onmessage = ({ data }) => draw(JSON.parse(data));
events.onerror = () => put($("connection"), "The connection is lost; this page tries again by itself while its command runs.");
setInterval(() => shown && drawWays(), 1000);
