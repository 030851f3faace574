/* The admin of backbeat_celery works without this file. With it, the tree page refreshes itself,
   branches open without a new page, arrow keys walk the tree, and texts can be copied. */
'use strict';
{
    const live = document.getElementById('bb-live');
    const notice = document.getElementById('bb-notice');
    const seen = new WeakMap();  // what the server sent of each row, before tick() and activate()
    const TIMEOUT = 10000, SLOWEST = 60;
    let etag = '', timer = 0, failures = 0, turn = 0, going = 0, drift = 0, active = '';

    /* Times that go on ------------------------------------------------------------------- */

    function words(seconds) {
        const s = Math.floor(seconds), m = Math.floor(s / 60), h = Math.floor(s / 3600);
        if (s < 60) { return `${s} s`; }
        if (m < 10) { return `${m} min ${s % 60} s`; }
        if (h < 1) { return `${m} min`; }
        return h < 24 ? `${h} h ${m % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`;
    }

    function tick() {
        for (const time of live.querySelectorAll('time[data-bb-time]')) {
            const passed = (Date.now() + drift - Date.parse(time.dateTime)) / 1000;
            const kind = time.dataset.bbTime === 'for' ? 'for' : passed < 0 ? 'in' : 'ago';
            const text = live.dataset[kind].replace('%s', words(Math.abs(passed)));
            if (time.textContent !== text) { time.textContent = text; }
        }
    }

    /* Refreshing ------------------------------------------------------------------------- */

    const part = (root, name) => root.querySelector(`[data-part="${name}"]`);
    const grid = () => document.getElementById('bb-tree');

    function patch(html) {
        const fresh = new DOMParser().parseFromString(html, 'text/html');
        const focused = document.activeElement && document.activeElement.closest('#bb-live [id]');
        for (const next of fresh.querySelectorAll('[data-part]')) {
            const old = part(live, next.dataset.part);
            if (old.outerHTML !== next.outerHTML) { old.replaceWith(next); }
        }
        const table = grid(), next = fresh.getElementById('bb-tree');
        table.dataset.state = next.dataset.state;
        table.tHead.replaceWith(next.tHead);
        patchRows(table.tBodies[0], next.tBodies[0]);
        activate();
        if (focused && !document.contains(focused)) {
            const again = document.getElementById(focused.id);
            if (again) { again.focus({preventScroll: true}); }
        }
    }

    function patchRows(body, next) {
        const known = new Map(Array.from(body.rows, row => [row.id, row]));
        let place = body.firstElementChild;
        for (const row of Array.from(next.rows)) {
            let old = known.get(row.id);
            known.delete(row.id);
            if (old && seen.get(old) !== row.outerHTML) {
                seen.set(row, row.outerHTML);
                if (place === old) { place = row; }
                old.replaceWith(row);
                old = row;
            } else if (!old) {
                seen.set(row, row.outerHTML);
                old = row;
            }
            if (place === old) { place = old.nextElementSibling; } else { body.insertBefore(old, place); }
        }
        for (const row of known.values()) { row.remove(); }
    }

    function tell(kind) {
        notice.hidden = !kind;
        notice.textContent = kind ? notice.dataset[kind] : '';
        if (kind === 'expired') {
            const link = document.createElement('a');
            link.href = location.href;
            link.textContent = notice.dataset.login;
            notice.append(' ', link);
        }
    }

    // An answer that was overtaken by a later question is dropped: it shows another state.
    async function load(query, known, mine) {
        const response = await fetch(live.dataset.url + query, {
            headers: known ? {'If-None-Match': known} : {},
            cache: 'no-store',
            credentials: 'same-origin',
            signal: AbortSignal.timeout(TIMEOUT),
        });
        if (response.status === 304) { return true; }
        if (response.redirected || response.status === 403) { return false; }
        if (response.status === 404) { location.reload(); return false; }
        if (!response.ok || response.headers.get('X-Backbeat') !== 'tree') {
            throw new Error(`status ${response.status}`);
        }
        const html = await response.text();
        if (mine !== turn) { return true; }
        etag = response.headers.get('ETag') || '';
        drift = Date.parse(response.headers.get('X-Backbeat-Now')) - Date.now() || 0;
        patch(html);
        return true;
    }

    function plan() {
        clearTimeout(timer);
        const pause = Number(part(live, 'summary').dataset.poll);
        if (pause && !document.hidden) {
            timer = setTimeout(refresh, 1000 * Math.min(pause * 2 ** failures, SLOWEST));
        }
    }

    async function refresh() {
        if (going) { return plan(); }
        const mine = ++turn;
        try {
            const goesOn = await load(grid().dataset.state, etag, mine);
            failures = 0;
            tell(goesOn ? '' : 'expired');
            if (goesOn) { plan(); }
        } catch (error) {
            failures += 1;
            if (failures > 1) { tell('lost'); }
            plan();
        }
    }

    async function go(link) {
        const query = new URL(link.href).search || '?', mine = ++turn;
        going += 1;
        try {
            if (!await load(query, '', mine)) { location.assign(link.href); return; }
            if (mine === turn) {
                history.replaceState(null, '', query === '?' ? location.pathname : query);
                plan();
            }
        } catch (error) {
            location.assign(link.href);
        } finally {
            going -= 1;
        }
    }

    /* The keyboard ----------------------------------------------------------------------- */

    const rows = () => Array.from(grid().tBodies[0].rows);
    const level = row => Number(row.getAttribute('aria-level'));

    function activate(row) {
        const all = rows();
        row = row || document.getElementById(active) || all[0];
        if (!row) { return; }
        active = row.id;
        for (const other of all) {
            other.tabIndex = other === row ? 0 : -1;
            for (const link of other.querySelectorAll('a, summary')) {
                link.tabIndex = other === row ? 0 : -1;
            }
        }
    }

    function onKey(event) {
        const row = event.target.closest('tr');
        if (!row || event.altKey || event.ctrlKey || event.metaKey) { return; }
        const all = rows(), here = all.indexOf(row);
        const toggle = row.querySelector('a.bb-toggle');
        const isOpen = row.getAttribute('aria-expanded');
        let to = null;
        switch (event.key) {
        case 'ArrowDown': to = all[here + 1]; break;
        case 'ArrowUp': to = all[here - 1]; break;
        case 'Home': to = all[0]; break;
        case 'End': to = all[all.length - 1]; break;
        case 'ArrowRight':
            if (isOpen === 'false') { go(toggle); } else if (isOpen === 'true') { to = all[here + 1]; }
            break;
        case 'ArrowLeft':
            if (isOpen === 'true') { go(toggle); } else {
                to = all.slice(0, here).reverse().find(other => level(other) < level(row));
            }
            break;
        case 'Enter':
            if (event.target !== row) { return; }
            (row.querySelector('a.bb-name') || row.querySelector('a[data-bb-nav]')).click();
            break;
        default: return;
        }
        event.preventDefault();
        if (to) { activate(to); to.focus(); }
    }

    /* Copying ---------------------------------------------------------------------------- */

    function copy(text) {
        if (navigator.clipboard) { return navigator.clipboard.writeText(text); }
        const area = document.createElement('textarea');  // a page without https
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand('copy');
        area.remove();
        return Promise.resolve();
    }

    for (const block of document.querySelectorAll('pre[data-copy]')) {
        const button = document.createElement('button');
        button.type = 'button';
        button.className = 'bb-copy';
        button.textContent = block.dataset.copy;
        button.addEventListener('click', async() => {
            await copy(block.textContent);
            button.textContent = block.dataset.copied;
        });
        block.before(button);
    }

    /* Start ------------------------------------------------------------------------------ */

    if (live) {
        drift = Date.parse(live.dataset.now) - Date.now() || 0;
        for (const row of rows()) { seen.set(row, row.outerHTML); }
        activate();
        live.addEventListener('click', event => {
            const link = event.target.closest('a[data-bb-nav]');
            if (link && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
                event.preventDefault();
                go(link);
            }
        });
        live.addEventListener('keydown', event => {
            if (event.target.closest('#bb-tree tbody')) { onKey(event); }
        });
        live.addEventListener('focusin', event => {
            const row = event.target.closest('#bb-tree tbody tr');
            if (row) { activate(row); }
        });
        document.addEventListener('visibilitychange', () => {
            if (document.hidden) { clearTimeout(timer); } else { refresh(); }
        });
        setInterval(tick, 1000);
        plan();
    }
}
