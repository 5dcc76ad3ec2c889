//! What the trials of a run have shown.

use std::fmt;

use crate::client::Findings;

/// One kill.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) in_flight: usize,
    /// Sessions that were live.
    pub(crate) live: usize,
}

/// The sums of a run.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    seed: u64,
    pub(crate) trials: Vec<Trial>,
    /// Kills in the middle of a start, on top of the trials.
    pub(crate) starts_killed: usize,
    pub(crate) works: usize,
    pub(crate) acknowledged: u64,
    pub(crate) orphans: usize,
    pub(crate) alarms_overdue: usize,
    pub(crate) bystanders_lost: usize,
    findings: Findings,
}

impl Report {
    pub(crate) fn new(name: &'static str, seed: u64) -> Self {
        Self {
            name,
            seed,
            trials: Vec::new(),
            starts_killed: 0,
            works: 0,
            acknowledged: 0,
            orphans: 0,
            alarms_overdue: 0,
            bystanders_lost: 0,
            findings: Findings::default(),
        }
    }

    pub(crate) fn add(&mut self, mut findings: Findings) {
        self.findings.lost.append(&mut findings.lost);
        self.findings.doubled.append(&mut findings.doubled);
        self.findings.wrong.append(&mut findings.wrong);
    }

    pub(crate) fn has_findings(&self) -> bool {
        let Findings {
            lost,
            doubled,
            wrong,
        } = &self.findings;
        let counts = [self.orphans, self.alarms_overdue, self.bystanders_lost];
        !(lost.is_empty() && doubled.is_empty() && wrong.is_empty()) || counts != [0; 3]
    }

    pub(crate) fn in_flight_min(&self) -> usize {
        self.trials.iter().map(|t| t.in_flight).min().unwrap_or(0)
    }

    fn in_flight_median(&self) -> usize {
        let mut all: Vec<usize> = self.trials.iter().map(|t| t.in_flight).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    }

    /// Trials with a live session.
    pub(crate) fn live_trials(&self) -> usize {
        self.trials.iter().filter(|trial| trial.live > 0).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, .. } = self;
        let each: Vec<usize> = self.trials.iter().map(|t| t.in_flight).collect();
        let sessions: usize = self.trials.iter().map(|trial| trial.live).sum();
        writeln!(f, "{name}: {} kills, seed {seed}", self.trials.len())?;
        writeln!(f, "  in flight at each kill: {each:?}")?;
        writeln!(
            f,
            "  in flight: at least {}, median {}",
            self.in_flight_min(),
            self.in_flight_median()
        )?;
        writeln!(
            f,
            "  live sessions: in {} trials, {sessions} in all",
            self.live_trials()
        )?;
        writeln!(
            f,
            "  acknowledged {}, lost {}, doubled {}, otherwise wrong {}",
            self.acknowledged,
            self.findings.lost.len(),
            self.findings.doubled.len(),
            self.findings.wrong.len()
        )?;
        write!(
            f,
            "  starts killed {}, works {}, alarms overdue {}, orphans {}, bystanders lost {}",
            self.starts_killed, self.works, self.alarms_overdue, self.orphans, self.bystanders_lost
        )?;
        let findings = &self.findings;
        for finding in [&findings.lost, &findings.doubled, &findings.wrong] {
            for line in finding {
                write!(f, "\n  ! {line}")?;
            }
        }
        Ok(())
    }
}
