// Drives a running server with the `openai` package for Node; prints one JSON object.
// BASE_URL and API_KEY come from the environment. The Python twin is drive_openai.py.
import OpenAI from "openai";
import { readFileSync } from "node:fs";

const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
  maxRetries: 0,
});
const messages = [{ role: "user", content: "What is Anzoth?" }];
const common = { model: "anzoth-default", temperature: 0, max_tokens: 24 };

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function refusal(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return [error.constructor.name, error.status, error.code, Boolean(error.requestID)];
  }
}

const whole = await client.chat.completions.create({ messages, ...common });
const chunks = await collect(
  await client.chat.completions.create({
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...common,
  }),
);
const helper = client.chat.completions.stream({ messages, ...common });
const helped = await helper.finalContent();
const completion = await client.completions.create({ prompt: "Anzoth is", ...common });
const completionChunks = await collect(
  await client.completions.create({ prompt: "Anzoth is", stream: true, ...common }),
);
const models = await collect(await client.models.list());
const stranger = client.withOptions({ apiKey: "anz-000000000000_" + "0".repeat(42) });

console.log(
  JSON.stringify({
    version: JSON.parse(readFileSync(new URL("node_modules/openai/package.json", import.meta.url)))
      .version,
    models: models.map((model) => model.id),
    model: (await client.models.retrieve("anzoth-default")).id,
    chat: whole.choices[0].message.content,
    chat_role: whole.choices[0].message.role,
    chat_finish: whole.choices[0].finish_reason,
    chat_usage: whole.usage,
    chat_stream: chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join(""),
    chat_helper: helped,
    chat_stream_usage: chunks.at(-1).usage,
    completion: completion.choices[0].text,
    completion_stream: completionChunks.map((chunk) => chunk.choices[0]?.text ?? "").join(""),
    errors: {
      bad_key: await refusal(() => stranger.models.list()),
      unknown_model: await refusal(() =>
        client.chat.completions.create({ model: "no-such-model", messages }),
      ),
      bad_value: await refusal(() =>
        client.chat.completions.create({ messages, ...common, temperature: 9 }),
      ),
      too_long: await refusal(() =>
        client.completions.create({
          model: "anzoth-default",
          prompt: Array(100_000).fill(5),
          max_tokens: 1,
        }),
      ),
    },
  }),
);
