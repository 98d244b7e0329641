// Runs the flows of a driver and prints what each of them saw: one JSON object, by its name.
// What a flow throws is what it saw, so that one that breaks hides none of the others.

export async function run(flows) {
  const seen = {};
  for (const [name, flow] of Object.entries(flows)) {
    try {
      seen[name] = { saw: await flow() };
    } catch (error) {
      seen[name] = { raised: `${error.stack}\n${JSON.stringify(error)}` };
    }
  }
  console.log(JSON.stringify(seen));
}
