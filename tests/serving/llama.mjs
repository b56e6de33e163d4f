// The greedy text that llama.cpp writes from a GGUF file, as one JSON object: the tokens of the prompt and of the text.
//
//     npm install --ignore-scripts node-llama-cpp
//     node llama.mjs FILE.gguf PROMPT COUNT
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [file, prompt, count] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file });
const start = model.tokenize(prompt, false);
const context = await model.createContext({ contextSize: Math.min(model.trainContextSize, start.length + Number(count)) });
const written = [];
for await (const token of context.getSequence().evaluate(start, { temperature: 0, yieldEogToken: true })) {
  written.push(token);
  if (written.length >= Number(count)) break;
}
console.log(JSON.stringify({ prompt: start.map(Number), tokens: written.map(Number) }));
process.exit(0);
