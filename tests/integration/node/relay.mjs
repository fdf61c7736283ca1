// What every script here needs: a client that shows its certificate, and remembers what it was answered.
// The test says in the environment where the relay is and where the files are.

import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { Agent, fetch } from "undici";

const { RELAY_URL, RELAY_CA, RELAY_CERTIFICATE, RELAY_KEY } = process.env;

export const model = "gpt-4o-mini";
export const messages = [{ role: "user", content: "Name three rivers." }];

export const answers = [];

const dispatcher = new Agent({
  connect: {
    ca: readFileSync(RELAY_CA),
    cert: readFileSync(RELAY_CERTIFICATE),
    key: readFileSync(RELAY_KEY),
  },
});

export const client = new OpenAI({
  baseURL: `${RELAY_URL}/v1`,
  apiKey: "unused",
  timeout: 30_000,
  fetch: async (url, options) => {
    const answer = await fetch(url, options);
    answers.push({ status: answer.status, retryAfterMs: answer.headers.get("retry-after-ms") });
    return answer;
  },
  fetchOptions: { dispatcher },
});

export const tell = async (result) => {
  process.stdout.write(`${JSON.stringify({ ...result, answers })}\n`);
  await dispatcher.destroy();
};
