// A worker of the published SDK that does what it is told, one JSON object a line: `node puppet.mjs NAME`. What it
// is told and what it tells is in `../src/puppet.rs`.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import { registerWorker, TriggerAction } from 'iii-sdk'
import { main, WORKERS } from './lib.mjs'

const [NAME] = process.argv.slice(2)
const CALL_MS = 60_000

const token = process.env.III_TOKEN
const worker = registerWorker(WORKERS, {
  workerName: NAME,
  invocationTimeoutMs: CALL_MS,
  // This SDK does not read the variable itself.
  headers: token ? { Authorization: `Bearer ${token}` } : {},
})
const functions = new Map()
const triggers = new Map()
const held = new Map()

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)

const COMMANDS = {
  function: ({ id, does }) => {
    const handler = BEHAVIOURS[does.kind](does, id)
    const heard = async (data, metadata) => {
      tell({ heard: id, data, metadata })
      return handler(data)
    }
    functions.set(id, worker.registerFunction(id, heard))
  },
  trigger: ({ type, function: function_id, config, metadata }) =>
    void triggers.set(function_id, worker.registerTrigger({ type, function_id, config, metadata })),
  unbind: ({ function: id }) => triggers.get(id).unregister(),
  forget: ({ id }) => functions.get(id).unregister(),
  call: ({ function: function_id, payload, metadata, void: unanswered }) => {
    const action = unanswered ? TriggerAction.Void() : undefined
    return worker.trigger({ function_id, payload, metadata, action })
  },
  release: ({ function: id }) => held.get(id).release(),
}

const BEHAVIOURS = {
  echo: () => async (data) => ({ echo: data }),
  gives: ({ value }) => async () => value,
  nothing: () => async () => undefined,
  throws: ({ message }) => async () => {
    throw new Error(message)
  },
  holds: ({ value }, id) => {
    const gate = {}
    gate.released = new Promise((resolve) => (gate.release = resolve))
    held.set(id, gate)
    return async () => {
      await gate.released
      return value
    }
  },
  calls: ({ function: function_id, payload }) => async (data) => {
    const got = await worker.trigger({ function_id, payload: payload === undefined ? data : payload })
    return { by: NAME, got: got ?? null }
  },
  voids: ({ function: function_id }) => async (payload) => {
    await worker.trigger({ function_id, payload, action: TriggerAction.Void() })
  },
  if: ({ path, is, then, else: otherwise }) => async (data) => {
    const there = path.reduce((value, key) => value?.[key], data) ?? null
    return isDeepStrictEqual(there, is) ? then : otherwise
  },
  authenticates: ({ tokens }) => async ({ headers, query_params }) => {
    const bearer = headers.authorization?.replace(/^Bearer /, '')
    const protocol = headers['sec-websocket-protocol']?.match(/^Authorization,(.*)$/)?.[1].trim()
    const token = bearer ?? query_params.token?.[0] ?? protocol
    return Object.hasOwn(tokens, token) ? { context: tokens[token] } : { unauthorized: true }
  },
}

/** Commands run beside each other; registrations are sent before the next command is looked at. */
async function obey(line) {
  const command = JSON.parse(line)
  const run = COMMANDS[command.do] ?? assert.fail(`no command ${line}`)
  const { n } = command
  try {
    // JSON leaves out what is undefined.
    tell({ n, result: (await run(command)) ?? undefined })
  } catch (error) {
    if (error.name !== 'InvocationError') throw error
    tell({ n, error: { code: error.code, message: error.message } })
  }
}

main(async () => {
  for await (const line of createInterface({ input: process.stdin })) void obey(line)
  await worker.shutdown()
})
