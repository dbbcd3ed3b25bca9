// A published stream client that follows a group for as long as the test wants, across restarts of the server:
// `node follow.mjs browser|node STREAM GROUP ITEM`. Commands: `group [items]` and `item value` wait until the
// client holds that.
import { holds, main, obey, STREAMS, streamClient } from './lib.mjs'

main(async () => {
  const [kind, streamName, groupId, itemId] = process.argv.slice(2)
  const Stream = await streamClient(kind)
  const client = new Stream(`${STREAMS}/`)
  const group = client.subscribeGroup(streamName, groupId)
  const item = client.subscribeItem(streamName, groupId, itemId)
  await obey({
    group: (items) => holds(group, JSON.parse(items)),
    item: (value) => holds(item, JSON.parse(value)),
  })
})
