// A published stream client that follows a group for as long as the test wants, across restarts of the server:
// `node follow.mjs browser|node STREAM GROUP ITEM [TOKEN]`. Commands: `group [items]` and `item value` wait until the
// client holds that; `seen` gives the `n` of the item each time that a subscription told of a change, and what it
// heard of `typing`; `also GROUP` follows another group on the same connection, and waits until it has an item.
import { holds, main, obey, STREAMS, streamClient } from './lib.mjs'

main(async () => {
  const [kind, streamName, groupId, itemId, token] = process.argv.slice(2)
  const client = await connect(kind, token)
  const group = client.subscribeGroup(streamName, groupId)
  const item = client.subscribeItem(streamName, groupId, itemId)

  const seen = { group: [], item: [], typing: [] }
  group.addChangeListener((items) => seen.group.push(items.find(({ id }) => id === itemId)?.n ?? null))
  item.addChangeListener((value) => seen.item.push(value?.n ?? null))
  for (const [name, subscription] of Object.entries({ group, item })) {
    subscription.onEvent('typing', (data) => seen.typing.push([name, data]))
  }

  await obey({
    group: (items) => holds(group, JSON.parse(items)),
    item: (value) => holds(item, JSON.parse(value)),
    seen: () => seen,
    also: (other) => {
      const also = client.subscribeGroup(streamName, other)
      return new Promise((resolve) => also.addChangeListener((items) => items.length > 0 && resolve(items)))
    },
  })
})

/** Clients in browsers can't set headers, and this one takes no subprotocols: its token goes into the address. */
async function connect(kind, token) {
  const Stream = await streamClient(kind)
  if (token === undefined) return new Stream(`${STREAMS}/`)
  if (kind === 'browser') return new Stream(`${STREAMS}/?token=${encodeURIComponent(token)}`)
  return new Stream(`${STREAMS}/`, { protocols: ['Authorization', token] })
}
