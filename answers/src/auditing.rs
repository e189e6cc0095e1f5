//! What a station answers about its audit log, and what it keeps of those of others: their heads, which it asks for now and then.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::sync::oneshot;

use keepshare_auth::{
    AuditEvent,
    audit::{Checked, Head, HeadFound, check},
};
use keepshare_base::StationName;
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    audit::{AuditEntry, AuditFault, AuditHead, AuditHeadFound, AuditHeadSaid, AuditReport},
    caller::Caller,
    client::{Client, Piece},
    questions::{AuditHeads, AuditShow, AuditVerify, LIMIT_MAX},
    router::Answers,
};
use keepshare_host::clock;
use keepshare_station::station::Station;
use keepshare_versioning::when::{Moment, WHEN_HINT, When, WhenError};

use super::{StationAnswers, elsewhere::ToStation};

/// How often another station is asked for the head of its log.
const HEAD_EVERY: Duration = Duration::from_secs(3600);

/// How long to wait before one that did not answer is asked again, at first and at most.
const AGAIN: Duration = Duration::from_secs(10);
const AGAIN_LONGEST: Duration = Duration::from_secs(600);

/// How long another station may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How many heads one station may tell: more than it keeps of another.
const HEADS_MAX: usize = 1000;

impl Answers<AuditShow> for StationAnswers {
    fn answer(&self, _: &Caller, asked: AuditShow, reply: &mut Reply) -> Outcome<()> {
        let station = self.first()?;
        if !(1..=LIMIT_MAX).contains(&asked.limit) {
            return Err(Failure::usage(format!("the limit is 1 to {LIMIT_MAX}")));
        }
        if let Some(event) = &asked.event
            && !AuditEvent::NAMES.contains(&event.as_str())
        {
            let known = AuditEvent::NAMES.join(", ");
            return Err(Failure::usage(format!("there is no event '{event}'"))
                .hint(format!("events are {known}")));
        }
        let since = asked.since.as_deref().map(|typed| since(station, typed)).transpose()?;
        // The newest ones that are meant, and no more of them at a time than may be told.
        let mut kept = VecDeque::new();
        let take = |line: &[u8], file: &str, number: u64| {
            let entry = serde_json::from_slice(line).unwrap_or_else(|_| AuditEntry {
                unreadable: Some(format!("{file}, line {number}")),
                ..AuditEntry::default()
            });
            if is_meant(&entry, &asked, since.as_deref()) {
                if kept.len() >= asked.limit {
                    kept.pop_front();
                }
                kept.push_back(entry);
            }
        };
        let lines = station.accounts.audit().lines();
        lines.and_then(|lines| lines.each(take)).context("cannot read the audit log")?;
        kept.iter().try_for_each(|entry| reply.item(entry))
    }
}

/// Returns a typed time as lines of the log have it.
fn since(station: &Station, typed: &str) -> Outcome<String> {
    let no_time = |error: &dyn std::fmt::Display| Failure::usage(error).hint(WHEN_HINT);
    let when: When = typed.parse().map_err(|error: WhenError| no_time(&error))?;
    match when.resolve(station.config.zone, clock::now()) {
        Moment::At(stamp) => Ok(stamp.to_string()),
        Moment::Latest | Moment::Version(..) => Err(no_time(&format!("'{typed}' is not a time"))),
    }
}

/// Tells whether a line is asked for. One that cannot be read always is.
fn is_meant(entry: &AuditEntry, asked: &AuditShow, since: Option<&str>) -> bool {
    let is = |asked: Option<&str>, said: Option<&str>| asked.is_none() || asked == said;
    let set = asked.set.as_ref().map(|set| set.as_str());
    entry.unreadable.is_some()
        || is(set, entry.set.as_deref())
            && is(asked.user.as_deref(), entry.user.as_deref())
            && is(asked.event.as_deref(), Some(&entry.event))
            && since.is_none_or(|since| entry.time.as_str() > since)
}

impl Answers<AuditHeads> for StationAnswers {
    fn answer(&self, caller: &Caller, _: AuditHeads, reply: &mut Reply) -> Outcome<()> {
        let station = self.first()?;
        let head = station.accounts.audit().head().context("cannot sync the audit log")?;
        let name = station.config.name.to_string();
        let own = head.map(|head| AuditHead { station: name, head: head.to_string(), seen: None });
        own.iter().try_for_each(|own| reply.item(own))?;
        let kept = match caller {
            Caller::Member(name) => {
                vec![(name.clone(), station.membership.kept_heads.of(name))]
            }
            _ => station.membership.kept_heads.all(),
        };
        for (name, heads) in kept {
            for kept in heads {
                let (station, head) = (name.to_string(), kept.head.to_string());
                reply.item(&AuditHead { station, head, seen: Some(kept.seen) })?;
            }
        }
        Ok(())
    }
}

impl Answers<AuditVerify> for StationAnswers {
    fn answer(&self, _: &Caller, asked: AuditVerify, reply: &mut Reply) -> Outcome<()> {
        let station = self.first()?;
        let typed = asked.head.as_deref().map(str::parse::<Head>).transpose();
        let typed = typed.map_err(|error| Failure::because(Code::Usage, error))?;
        let mut heads: Vec<Kept> = Vec::new();
        heads.extend(typed.map(|head| Kept { station: None, head, seen: None }));
        let mut unasked = Vec::new();
        for name in others(station) {
            match heads_of(station, &name) {
                Ok(told) => {
                    heads.extend(told.into_iter().filter_map(|told| kept_by(&name, told, station)));
                }
                Err(failure) => {
                    tracing::debug!(peer = %name, error = failure.one_line(), "no heads of the audit log");
                    unasked.push(name.to_string());
                }
            }
        }
        // Asked first: what is written meanwhile is told by no head yet.
        let lines = station.accounts.audit().lines().context("cannot open the audit log")?;
        let all: Vec<Head> = heads.iter().map(|kept| kept.head).collect();
        let checked = check(lines, &all).context("cannot read the audit log")?;
        reply.item(&report(checked, heads, unasked))
    }
}

/// A head that somebody keeps of the log that is checked.
struct Kept {
    /// Which station does; none where it was typed.
    station: Option<StationName>,
    head: Head,
    seen: Option<String>,
}

/// Returns what a station keeps of this station's log; what it says of its own is not meant.
fn kept_by(name: &StationName, told: AuditHead, station: &Station) -> Option<Kept> {
    let is_ours = told.station == station.config.name.as_str() && told.seen.is_some();
    let head = told.head.parse().ok().filter(|_| is_ours)?;
    Some(Kept { station: Some(name.clone()), head, seen: told.seen })
}

/// Checks a log in a folder, without a station, against a head.
pub fn verify_folder(dir: &std::path::Path, head: Option<Head>) -> Outcome<AuditReport> {
    let shown = dir.display();
    let lines = keepshare_auth::audit::Lines::in_folder(dir);
    let all: Vec<Head> = head.into_iter().collect();
    let checked = lines.and_then(|lines| check(lines, &all));
    let checked = checked.with_context(|| format!("cannot read the audit log in {shown}"))?;
    if checked.lines == 0 && checked.torn_bytes == 0 {
        return Err(Failure::not_found(format!("there is no audit log in {shown}"))
            .hint("name the folder that has audit.log, such as a station's state folder"));
    }
    let heads = all.into_iter().map(|head| Kept { station: None, head, seen: None }).collect();
    Ok(report(checked, heads, Vec::new()))
}

fn report(checked: Checked, heads: Vec<Kept>, unasked: Vec<String>) -> AuditReport {
    let heads: Vec<AuditHeadSaid> = heads
        .into_iter()
        .zip(&checked.heads)
        .map(|(kept, found)| said(kept, *found, &checked))
        .collect();
    let is_bad = |said: &AuditHeadSaid| {
        matches!(said.found, AuditHeadFound::Other | AuditHeadFound::Missing)
    };
    let Checked { lines, before_chain, first, head, torn_bytes, torn_lines, fault, .. } = checked;
    AuditReport {
        ok: fault.is_none() && !heads.iter().any(is_bad),
        lines,
        before_chain,
        first,
        head: head.map(|head| head.to_string()),
        torn_bytes,
        torn_lines,
        fault: fault.map(|fault| AuditFault { file: fault.file, line: fault.line, why: fault.why }),
        heads,
        unasked,
    }
}

fn said(kept: Kept, found: HeadFound, checked: &Checked) -> AuditHeadSaid {
    let Kept { station, head, seen } = kept;
    // What came after a backup is lost with the machine, and what was written since has its numbers.
    let was_lost = || {
        checked.restored.iter().any(|restored| {
            restored.n <= head.count && seen.as_ref().is_some_and(|seen| *seen < restored.time)
        })
    };
    let found = match found {
        HeadFound::Same => AuditHeadFound::Same,
        HeadFound::Other | HeadFound::Missing if was_lost() => AuditHeadFound::LostInRestore,
        HeadFound::Other => AuditHeadFound::Other,
        HeadFound::Missing => AuditHeadFound::Missing,
        HeadFound::Gone => AuditHeadFound::Gone,
        HeadFound::Unjudged => AuditHeadFound::Unjudged,
    };
    AuditHeadSaid {
        station: station.map(|name| name.to_string()),
        head: head.to_string(),
        seen,
        found,
    }
}

/// Returns the other stations of the cluster.
fn others(station: &Station) -> Vec<StationName> {
    let names = station.membership.peers.members().into_iter().map(|member| member.name);
    names.filter(|name| *name != station.config.name).collect()
}

/// Asks another station for the head of its log, and for those that it keeps of this one's. Blocks.
fn heads_of(station: &Station, name: &StationName) -> Outcome<Vec<AuditHead>> {
    let peers = Arc::clone(&station.membership.peers);
    let dial = ToStation { peers, name: name.clone(), patience: SILENCE_MAX };
    let mut answer = Client::new(dial)?.ask(&AuditHeads {})?;
    let mut heads = Vec::new();
    while let Some(piece) = answer.next_piece()? {
        if let Piece::Item(head) = piece {
            heads.push(head);
        }
        if heads.len() > HEADS_MAX {
            return Err(Failure::new(
                Code::Failed,
                format!("station {name} tells heads without end"),
            ));
        }
    }
    Ok(heads)
}

/// Keeps the heads of the logs of the other stations, each asked for when this station starts and every hour, for as long as there is the
/// station.
pub async fn keep_heads(station: Weak<Station>) {
    let mut due = HashMap::new();
    let mut tick = tokio::time::interval(AGAIN);
    loop {
        tick.tick().await;
        let (done, told) = oneshot::channel();
        let station = station.clone();
        // A thread that nobody waits for: a station that is silent does not hold the end of this one.
        let work = move || {
            let Some(station) = station.upgrade() else { return };
            ask_those_due(&station, &mut due);
            drop(station);
            // Nobody waits where the station has ended.
            let _ = done.send(due);
        };
        if let Err(error) = thread::Builder::new().name("audit-heads".to_owned()).spawn(work) {
            return tracing::error!(%error, "heads of audit logs are not kept");
        }
        let Ok(after) = told.await else { return };
        due = after;
    }
}

/// When a station is asked next, and how long to wait after that where it does not answer.
type Due = HashMap<StationName, (Instant, Duration)>;

fn ask_those_due(station: &Station, due: &mut Due) {
    let others = others(station);
    due.retain(|name, _| others.contains(name));
    for name in others {
        let (at, pause) = due.get(&name).copied().unwrap_or((Instant::now(), AGAIN));
        if Instant::now() < at {
            continue;
        }
        let next = match keep_head_of(station, &name) {
            Ok(()) => (HEAD_EVERY, AGAIN),
            Err(failure) => {
                tracing::debug!(peer = %name, error = failure.one_line(), "no head of the audit log");
                (pause, (pause * 2).min(AGAIN_LONGEST))
            }
        };
        due.insert(name, (Instant::now() + next.0, next.1));
    }
}

fn keep_head_of(station: &Station, name: &StationName) -> Outcome<()> {
    let told = heads_of(station, name)?;
    let own = told.into_iter().find(|told| told.station == name.as_str() && told.seen.is_none());
    let Some(own) = own else { return Ok(()) };
    let head: Head = own
        .head
        .parse()
        .map_err(|error| Failure::because(Code::Failed, anyhow::Error::new(error)))?;
    let kept = station.membership.kept_heads.keep(name, head, clock::now());
    Ok(kept.context("cannot keep the head of another station's audit log")?)
}
