// Makes the calls that a test names, with the `openai` package; says what it made of each answer.
// The Python twin is drive_errors.py, which says what goes in and out.
import OpenAI from "openai";
import { createInterface } from "node:readline";

async function outcome(call) {
  const client = new OpenAI({
    baseURL: process.env.BASE_URL,
    apiKey: call.key,
    maxRetries: call.max_retries,
  });
  try {
    await client.chat.completions.create({
      model: call.model,
      messages: [{ role: "user", content: call.text }],
      max_tokens: call.max_tokens,
      temperature: 0,
    });
    return ["ok"];
  } catch (error) {
    return [error.constructor.name, error.status, error.code];
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcome(JSON.parse(line))));
}
