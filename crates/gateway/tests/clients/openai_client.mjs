// npm's openai against a node.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const { OpenAI } = createRequire(process.env.HALLMARK_MODULES + '/')('openai');
const client = new OpenAI({ baseURL: process.env.HALLMARK_URL + '/v1', apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user', content: 'Grüße' }];
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }];
const echo = 'Echo: Grüße é😀\n"\\';

const answer = await client.chat.completions.create({ model: 'm', messages });
assert.equal(answer.choices[0].message.content, echo);
assert.ok(answer.hallmark.receipt);

let text = '';
const stream = await client.chat.completions.create({ model: 'm', messages, stream: true });
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
assert.equal(text, echo);

const final = await client.chat.completions.stream({ model: 'm', messages, tools }).finalChatCompletion();
assert.equal(final.choices[0].message.tool_calls[0].function.name, 'weather');

const response = await client.responses.create({ model: 'm', input: 'Grüße' });
assert.equal(response.output_text, echo);

await assert.rejects(client.chat.completions.create({ model: 'other', messages }), { status: 404 });
console.log('ok');
