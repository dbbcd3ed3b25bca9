// What the scripts share: the addresses of the server, waiting for conditions, and commands on stdin.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'
import { registerWorker } from 'iii-sdk'

const address = (name) => process.env[name] ?? assert.fail(`${name} is not set`)
export const WORKERS = address('HEADWATER_WORKERS')
export const STREAMS = address('HEADWATER_STREAMS')

const SCRIPT_MS = 80_000
const CONDITION_MS = 30_000

const show = (value) => JSON.stringify(value) ?? String(value)

/** Runs a script: exits with 0 when it is through, with 1 and the reason when it fails or takes too long. */
export async function main(script) {
  setTimeout(() => fail(new Error(`not done after ${SCRIPT_MS} ms`)), SCRIPT_MS).unref()
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)
  try {
    await script()
    process.exit(0)
  } catch (error) {
    fail(error)
  }
}

function fail(error) {
  console.error('failed:', error)
  process.exit(1)
}

/** A worker of the published SDK. Names differ, as two workers must not share one; the SDK does not read III_TOKEN. */
let workers = 0
export function worker() {
  const token = process.env.III_TOKEN
  const headers = token ? { Authorization: `Bearer ${token}` } : {}
  return registerWorker(WORKERS, { workerName: `${process.pid}-${++workers}`, headers })
}

/** Calls a function and gives its result. */
export function call(worker, function_id, payload) {
  return worker.trigger({ function_id, payload, timeoutMs: CONDITION_MS })
}

/** Calls a function and gives the error that it must end with. */
export async function refusal(worker, function_id, payload) {
  let result
  try {
    result = await call(worker, function_id, payload)
  } catch (error) {
    return error
  }
  assert.fail(`${function_id} was to be refused, but gave ${show(result)}`)
}

/** The `Stream` class of a published stream client. */
export async function streamClient(kind) {
  if (kind === 'node') return (await import('@motiadev/stream-client-node')).Stream
  assert.equal(kind, 'browser')
  // The package is made for bundlers: Node can't load it as it is.
  const { outputFiles } = await build({
    stdin: { contents: `export { Stream } from '@motiadev/stream-client-browser'`, resolveDir: import.meta.dirname },
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
  })
  const bundle = Buffer.from(outputFiles[0].contents).toString('base64')
  return (await import(`data:text/javascript;base64,${bundle}`)).Stream
}

/** Waits until the state of a subscription is this one. */
export function holds(subscription, expected) {
  return new Promise((resolve, reject) => {
    const done = (settle, value) => {
      clearTimeout(deadline)
      subscription.removeChangeListener(look)
      settle(value)
    }
    const look = () => {
      try {
        assert.deepStrictEqual(subscription.getState(), expected)
      } catch {
        return
      }
      done(resolve)
    }
    const deadline = setTimeout(() => {
      const held = show(subscription.getState())
      done(reject, new Error(`waited for the state ${show(expected)}, but it stayed ${held}`))
    }, CONDITION_MS)
    subscription.addChangeListener(look)
    look()
  })
}

/** A promise, or an error that says what did not happen. */
export function within(what, promise) {
  let deadline
  const late = new Promise((_, reject) => {
    deadline = setTimeout(() => reject(new Error(`waited for ${what}`)), CONDITION_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(deadline))
}

/**
 * Obeys the commands on stdin, `word argument`, one a line and one after the other, and answers each with
 * `word result`. Returns when stdin is closed.
 */
export async function obey(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const space = line.indexOf(' ')
    const word = space < 0 ? line : line.slice(0, space)
    const command = commands[word] ?? assert.fail(`no command ${word}`)
    const result = await command(space < 0 ? '' : line.slice(space + 1))
    console.log(word, result === undefined ? '' : show(result))
  }
}
