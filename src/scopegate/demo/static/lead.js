// The lead form: photos go up first, each to its own presigned address, then the lead, then we wait for the estimate.
"use strict";

const form = document.getElementById("lead");
const button = form.querySelector("button");
const statusLine = document.getElementById("status");

const POLL_MS = 1500;
const POLLS = 200;

class Refused extends Error {}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function call(url, options) {
  const answer = await fetch(url, options);
  if (answer.status === 429) {
    throw new Refused(`Too many requests. Please try again in ${answer.headers.get("Retry-After") || "a few"} seconds.`);
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    const fields = (body.errors || []).map((error) => `${error.field}: ${error.message}`);
    throw new Refused(fields.join(", ") || body.error || body.title || `The server answered ${answer.status}.`);
  }
  return answer;
}

async function postJson(url, value) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) };
  return (await call(url, options)).json();
}

async function upload(file) {
  const place = await postJson("/api/uploads/presign", { contentType: file.type, bytes: file.size });
  await call(place.uploadUrl, { method: "PUT", headers: { "Content-Type": file.type }, body: file });
  return { url: place.url };
}

async function send() {
  const data = new FormData(form);
  const photos = [];
  for (const file of data.getAll("photos").filter((one) => one.size > 0)) {
    statusLine.textContent = `Sending ${file.name} …`;
    photos.push(await upload(file));
  }
  statusLine.textContent = "Sending …";
  return postJson("/api/leads", {
    name: data.get("name"),
    email: data.get("email"),
    contractorSlug: "demo",
    projectDescription: data.get("projectDescription"),
    photos,
  });
}

function cell(text) {
  const td = document.createElement("td");
  td.textContent = text;
  return td;
}

function money(cents) {
  return new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" }).format(cents / 100);
}

function show(lead) {
  const { scope, estimate } = lead.analysis;
  document.getElementById("summary").textContent = scope.summary;
  const rows = estimate.line_items.map((item) => {
    const row = document.createElement("tr");
    row.append(cell(item.description), cell(`${item.quantity} ${item.unit.replace("_", " ")}`), cell(money(item.amount_cents)));
    return row;
  });
  document.getElementById("lines").replaceChildren(...rows);
  document.getElementById("total").textContent = money(estimate.total_cents);
  document.getElementById("score").textContent = lead.score === null ? "" : `Lead score: ${lead.score}`;
  document.getElementById("result").hidden = false;
}

async function follow(id) {
  for (let n = 0; n < POLLS; n += 1) {
    const lead = await (await call(`/api/leads/${encodeURIComponent(id)}`, {})).json();
    if (lead.status === "analysed") {
      show(lead);
      statusLine.textContent = "Your estimate is ready.";
      if (lead.score !== null) return;
    }
    await pause(POLL_MS);
  }
  statusLine.textContent = "This takes longer than usual. We will get back to you by e-mail.";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    const lead = await send();
    statusLine.textContent = "Thank you, we have it. The estimate is being prepared …";
    await follow(lead.id);
  } catch (error) {
    statusLine.textContent = error instanceof Refused ? error.message : "The connection failed. Please try again.";
  } finally {
    button.disabled = false;
  }
});
