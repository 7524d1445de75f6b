// Sends one picture of this device's camera every so many seconds, and shows the decision that comes back.
"use strict";
const part = (id) => document.getElementById(id);
const SIDE_MAX = 1280; // pixels of the longer side: enough for a decision, little for the link
const WAIT_S = 5;
const counts = { sent: 0, refused: 0 };
let stream = null;
let timer = null;

// The token may come behind a # in the address, which a browser never sends to a server.
const given = new URLSearchParams(location.hash.slice(1));
for (const name of ["name", "token", "every"]) if (given.has(name)) part(name).value = given.get(name);
history.replaceState(null, "", location.pathname);

function tell(text, wrong = false) {
  part("decision").textContent = text;
  part("decision").classList.toggle("wrong", wrong);
  part("counts").textContent = `${counts.sent} sent, ${counts.refused} refused`;
}

async function start() {
  if (!navigator.mediaDevices) throw new Error("A browser shows its camera only to pages over HTTPS or on localhost.");
  stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: part("lens").value }, audio: false });
  part("view").srcObject = stream;
  await part("view").play();
  part("go").textContent = "Stop";
  await turn();
}

function stop() {
  clearTimeout(timer);
  for (const track of stream ? stream.getTracks() : []) track.stop();
  stream = null;
  part("view").srcObject = null;
  part("go").textContent = "Start";
}

function picture() {
  const view = part("view");
  const scale = Math.min(1, SIDE_MAX / Math.max(view.videoWidth, view.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(view.videoWidth * scale);
  canvas.height = Math.round(view.videoHeight * scale);
  canvas.getContext("2d").drawImage(view, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
}

async function send() {
  const body = await picture();
  if (!body) return;
  const answer = await fetch(`push/${encodeURIComponent(part("name").value)}?wait_s=${WAIT_S}`, {
    method: "POST", body, headers: { "content-type": "image/jpeg", authorization: `Bearer ${part("token").value}` },
  });
  const said = await answer.json();
  if (!answer.ok) {
    counts.refused += 1;
    tell(said.error || `The device answers ${answer.status}.`, true);
    return;
  }
  counts.sent += 1;
  const decision = said.decision;
  tell(decision ? `${decision.label} (${Math.round(decision.confidence * 100)} %)` : "Sent; no decision yet.");
}

async function turn() {
  const began = performance.now();
  try {
    await send();
  } catch (error) {
    tell(`The device does not answer: ${error.message}`, true);
  }
  const rest = Number(part("every").value) * 1000 - (performance.now() - began);
  if (stream) timer = setTimeout(turn, Math.max(rest, 50)); // the next picture waits for the answer to this one
}

part("settings").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (stream) return stop();
  try {
    await start();
  } catch (error) {
    stop();
    tell(`No camera: ${error.message}`, true);
  }
});
