//! Whether the process lives, and whether it can be asked.

use axum::extract::State;
use tasklog_log::{Clock, Millis, SystemClock};

use super::{
    ReplicaBounds,
    answer::Answer,
    problem::Problem,
    state::{App, Phase},
};
use crate::store::{FollowerReport, FollowerState, Following};

/// `GET /healthz`
pub(crate) async fn healthz() -> Answer {
    Answer::json(r#"{"alive":true}"#)
}

/// `GET /readyz`
pub(crate) async fn readyz(State(app): State<App>) -> Result<Answer, Problem> {
    match app.phase() {
        Phase::Opening => return Err(app.not_open()),
        Phase::Stopping => return Err(Problem::busy("the service is stopping")),
        Phase::Serving => {}
    }
    let (position, following) = app.probe(|store| Ok((store.health()?, store.following()?))).await?;
    app.saw(position);
    let lag = match following {
        None => String::new(),
        Some(Following { report, .. }) => {
            let lag = require_caught_up(report, app.settings.replica, SystemClock.now())
                .map_err(|why| Problem::busy(why).at(position))?;
            format!(r#","lag_events":{lag}"#)
        }
    };
    Ok(Answer::json(format!(r#"{{"ready":true,"position":{position}{lag}}}"#)).at(position))
}

/// How many events a replica is behind, by what its follower last reported.
///
/// # Errors
/// Why it is not known to be close enough to its source.
fn require_caught_up(report: Option<FollowerReport>, bounds: ReplicaBounds, now: Millis) -> Result<u64, String> {
    let ReplicaBounds { lag_max, silence_max } = bounds;
    let Some((report, source)) = report.and_then(|report| report.source.map(|source| (report, source))) else {
        return Err("a replica that has not seen its source yet: is its follower (tasklog follow) running?".to_owned());
    };
    let FollowerReport { state, why, reported_at, .. } = report;
    if state == FollowerState::Failed {
        let why = why.unwrap_or_default();
        return Err(format!("a replica whose follower ended with an error and has to be looked after: {why}"));
    }
    if source.lag_events > lag_max {
        return Err(format!(
            "a replica that is catching up: {} events behind its source, at most {lag_max} are allowed (--replica-lag-max)",
            source.lag_events
        ));
    }
    let silent = u128::try_from(now.saturating_sub(reported_at)).unwrap_or_default();
    if !silence_max.is_zero() && silent > silence_max.as_millis() {
        return Err(format!(
            "a replica whose follower is {} and has said nothing for {silent} ms, at most {} are allowed \
             (--replica-silence-ms): nobody knows how far it is behind its source",
            state.as_str(),
            silence_max.as_millis()
        ));
    }
    Ok(source.lag_events)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tasklog_log::Position;

    use super::*;
    use crate::store::SourceSeen;

    const NOW: Millis = 1_000_000;

    fn report(state: FollowerState, lag_events: u64) -> FollowerReport {
        let source = SourceSeen { seen_at: NOW, position: Position(lag_events + 7), lag_events, lag_ms: 0 };
        FollowerReport { state, why: Some("diverged".to_owned()), reported_at: NOW, source: Some(source) }
    }

    fn judged(report: FollowerReport, now: Millis) -> Result<u64, String> {
        let bounds = ReplicaBounds { lag_max: 5, silence_max: Duration::from_millis(100) };
        require_caught_up(Some(report), bounds, now)
    }

    #[test]
    fn a_replica_is_ready_while_it_is_as_close_to_its_source_as_allowed() {
        assert_eq!(judged(report(FollowerState::Following, 5), NOW), Ok(5));
        let why = judged(report(FollowerState::Following, 6), NOW).unwrap_err();
        assert!(why.contains("6 events behind"), "{why}");
    }

    #[test]
    fn a_replica_that_never_saw_its_source_is_not_ready() {
        assert!(require_caught_up(None, ReplicaBounds::default(), NOW).is_err());
        let unseen = FollowerReport { source: None, ..report(FollowerState::Lost, 0) };
        assert!(judged(unseen, NOW).unwrap_err().contains("not seen its source"));
    }

    #[test]
    fn a_lost_source_leaves_a_replica_ready_and_a_failed_follower_does_not() {
        assert_eq!(judged(report(FollowerState::Lost, 0), NOW + 100), Ok(0));
        assert!(judged(report(FollowerState::Failed, 0), NOW).unwrap_err().contains("diverged"));
    }

    #[test]
    fn a_silent_follower_makes_a_replica_unready_unless_silence_is_allowed() {
        assert!(judged(report(FollowerState::Stopped, 0), NOW + 101).unwrap_err().contains("101 ms"));
        let bounds = ReplicaBounds { silence_max: Duration::ZERO, ..ReplicaBounds::default() };
        assert_eq!(require_caught_up(Some(report(FollowerState::Stopped, 0)), bounds, Millis::MAX), Ok(0));
        // A clock that was set back is no silence.
        assert_eq!(judged(report(FollowerState::Following, 0), NOW - 5_000), Ok(0));
    }
}
