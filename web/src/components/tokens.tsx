/**
 * How tokens are made, seen and revoked. Not here: the hive lets no browser do it, so that whoever has a session for a
 * while cannot keep the way in.
 */
export const Tokens = () => (
  <div class="tokens">
    <p>
      what a program shows instead of a session. the hive command on the hive's machine makes, lists and ends
      them, no page does: a session that gets into wrong hands is no lasting key
    </p>
    <dl class="token-commands">
      <dt>
        <code>hive token create NAME --scope read --expires 30d</code>
      </dt>
      <dd>makes one and prints its secret, once; the scopes are read, send, decide and admin</dd>
      <dt>
        <code>hive token list</code>
      </dt>
      <dd>shows their scopes, until when they are good, and when each was last used</dd>
      <dt>
        <code>hive token revoke NAME</code>
      </dt>
      <dd>ends one at once</dd>
    </dl>
  </div>
);
