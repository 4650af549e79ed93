//! Whatever one side says, the other side hears: domain → message → bytes → message → domain.
#![allow(clippy::unwrap_used)]

mod common;

use proptest::prelude::*;
use prost::Message;
use ringward_domain::command::Outcome;
use ringward_domain::incident::IncidentView;
use ringward_domain::report::{HostView, MemberView, ReleaseView, RolloutView};
use ringward_domain::session::{ToAgent, ToServer};
use ringward_wire::watch::WatchEvent;
use ringward_wire::{DecodeError, pb};

fn through<D, P>(value: D) -> Result<D, DecodeError>
where
    P: From<D> + Message + Default,
    D: TryFrom<P, Error = DecodeError>,
{
    let bytes = P::from(value).encode_to_vec();
    D::try_from(P::decode(bytes.as_slice()).unwrap())
}

proptest! {
    #[test]
    fn what_the_agent_says_arrives(message in common::to_server()) {
        prop_assert_eq!(through::<ToServer, pb::AgentFrame>(message.clone()), Ok(message));
    }

    #[test]
    fn what_the_server_says_arrives(message in common::to_agent()) {
        prop_assert_eq!(through::<ToAgent, pb::ServerFrame>(message.clone()), Ok(message));
    }

    #[test]
    fn reports_of_rollouts_arrive(view in common::rollout_view()) {
        prop_assert_eq!(through::<RolloutView, pb::RolloutView>(view.clone()), Ok(view.clone()));
        let event = WatchEvent::Rollout(Box::new(view));
        prop_assert_eq!(through::<WatchEvent, pb::WatchEvent>(event.clone()), Ok(event));
    }

    #[test]
    fn incidents_and_suspects_arrive(view in common::incident()) {
        prop_assert_eq!(through::<IncidentView, pb::IncidentView>(view.clone()), Ok(view.clone()));
        let listed = pb::ListIncidentsResponse { incidents: vec![view.clone().into()] };
        prop_assert_eq!(ringward_wire::incident::incidents(listed), Ok(vec![view]));
    }

    #[test]
    fn reports_of_hosts_arrive(view in common::host_view()) {
        prop_assert_eq!(through::<HostView, pb::HostView>(view.clone()), Ok(view));
    }

    #[test]
    fn reports_of_members_arrive(view in common::member()) {
        prop_assert_eq!(through::<MemberView, pb::MemberView>(view.clone()), Ok(view));
    }

    #[test]
    fn reports_of_releases_arrive(view in common::release_view()) {
        prop_assert_eq!(through::<ReleaseView, pb::ReleaseView>(view.clone()), Ok(view));
    }

    #[test]
    fn outcomes_arrive(outcome in common::outcome()) {
        prop_assert_eq!(through::<Outcome, pb::Outcome>(outcome.clone()), Ok(outcome));
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(frame) = pb::AgentFrame::decode(bytes.as_slice()) {
            let _ = ToServer::try_from(frame);
        }
        if let Ok(frame) = pb::ServerFrame::decode(bytes.as_slice()) {
            let _ = ToAgent::try_from(frame);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(
        message in common::to_server(),
        at in any::<proptest::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut bytes = pb::AgentFrame::from(message).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(frame) = pb::AgentFrame::decode(bytes.as_slice()) {
            let _ = ToServer::try_from(frame);
        }
    }
}
