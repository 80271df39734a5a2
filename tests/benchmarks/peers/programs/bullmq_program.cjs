// BullMQ: `node bullmq_program.cjs produce` speaks the lines of produce.py, `... work` is the worker.
//
// Bulk call: addBulk. CommonJS, because only there does NODE_PATH find the package where the benchmark has put it.

const fs = require('node:fs');
const readline = require('node:readline');
const { setTimeout: sleep } = require('node:timers/promises');
const { Queue, Worker } = require('bullmq');

// A worker's local concurrency: its guide recommends 100 to 300 where jobs do not keep the processor busy.
const CONCURRENCY = Number(process.argv[3] ?? 100);
const BATCH = 1000;
const at = new URL(process.env.BENCHMARK_REDIS_URL);
const connection = { host: at.hostname, port: Number(at.port), maxRetriesPerRequest: null };

function work() {
  const tally = fs.openSync(process.env.BENCHMARK_TALLY, 'a');
  const job = async ({ data: { number, sent, stay } }) => {
    const record = Buffer.alloc(24);
    record.writeBigUInt64LE(process.hrtime.bigint(), 16);
    record.writeBigUInt64LE(BigInt(number), 0);
    record.writeBigUInt64LE(BigInt(sent), 8);
    fs.writeSync(tally, record);
    if (stay) await sleep(stay * 1000);
  };
  const worker = new Worker('bench', job, { connection, concurrency: CONCURRENCY });
  worker.on('error', (problem) => console.error(problem.message));
  process.on('SIGTERM', async () => {
    await worker.close();
    process.exit(0);
  });
}

async function produce() {
  const queue = new Queue('bench', { connection });
  const answer = (words) => console.log(JSON.stringify(words));
  const now = () => process.hrtime.bigint();
  const job = (number, stay = 0) => ({ name: 'job', data: { number, sent: now().toString(), stay } });
  await queue.waitUntilReady();
  answer({ version: require('bullmq/package.json').version });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    const began = now();
    if (order.do === 'submit') {
      for (let done = 0; done < order.count; done += BATCH) {
        const size = Math.min(BATCH, order.count - done);
        await queue.addBulk(Array.from({ length: size }, (_, index) => job(order.first + done + index)));
      }
    } else if (order.do === 'pace') {
      for (let index = 0; index < order.count; index += 1) {
        const due = began + BigInt(Math.round((index / order.per_second) * 1e9));
        const wait = Number(due - now()) / 1e6;
        if (wait > 0) await sleep(wait);
        const { name, data } = job(order.first + index);
        await queue.add(name, data);
      }
    } else {
      const { name, data } = job(order.number, order.seconds);
      await queue.add(name, data);
    }
    answer({ began_ns: Number(began), ended_ns: Number(now()) });
  }
  await queue.close();
}

if (process.argv[2] === 'work') {
  work();
} else {
  produce().catch((problem) => {
    console.log(JSON.stringify({ problem: problem.message }));
    process.exit(1);
  });
}
