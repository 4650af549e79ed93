//! Chaos strikes the demo's processes.

use super::chaos::{Blow, Chaos, Report};
use super::fleet::{Demo, reach, start_server};
use super::story::Story;
use crate::process::Running;
use anyhow::Result;
use ringward_domain::report::RolloutView;

impl Demo {
    /// Kills server and first agent, tears the agent's spool, and starts both again.
    pub(super) async fn strike(&mut self, chaos: &mut Chaos, story: &Story) -> Result<()> {
        story.say("chaos: SIGKILL to the server and to real-0; the tail of its spool is torn");
        if let Some(server) = self.server.take() {
            server.kill().await?;
            chaos.report.server_kills += 1;
        }
        self.agents.remove(0).kill().await?;
        chaos.report.agent_kills += 1;
        chaos.tear_spool(&self.dir.join("real-0").join("spool"))?;
        let agent = self.run_agent(0)?;
        self.agents.insert(0, agent);
        self.server = Some(start_server(&self.programs, &self.dir)?);
        reach(&self.context).await?;
        story.say("chaos: both run again");
        Ok(())
    }

    /// Ends the full disk when its time is over, whether the server answers or not.
    pub(super) fn free_disk(&mut self, story: &Story) -> Result<()> {
        let pid = self.server.as_ref().and_then(Running::pid);
        match &mut self.chaos {
            Some(chaos) if chaos.is_full_long_enough() => {
                story.say("chaos: the server's disk has room again");
                chaos.free_disk(pid)
            }
            _ => Ok(()),
        }
    }

    /// One blow, if the rollout is where one is due.
    pub(super) async fn suffer(&mut self, view: &RolloutView, story: &Story) -> Result<()> {
        let Some(mut chaos) = self.chaos.take() else {
            return Ok(());
        };
        let pid = self.server.as_ref().and_then(Running::pid);
        let done = match chaos.next_blow(view) {
            Some(Blow::Kill) => self.strike(&mut chaos, story).await,
            Some(Blow::FillDisk) => {
                story.say("chaos: the server's disk is full for ten seconds");
                chaos.fill_disk(pid)
            }
            None => Ok(()),
        };
        self.chaos = Some(chaos);
        done
    }

    /// What chaos did, if it was let loose.
    #[must_use]
    pub fn chaos_report(&self) -> Option<Report> {
        let log = std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        self.chaos.as_ref().map(|chaos| chaos.report(&log))
    }
}
