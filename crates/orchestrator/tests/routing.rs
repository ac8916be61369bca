//! Routes of random requests among random variants: never to one without room.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;

use aio_orchestrator::routing::{Policy, Probed, Rejected, Room, RouteReason, RouteRequest, VariantNow};
use noise::Noise;

#[test]
fn no_policy_routes_outside_memory() {
    println!("seed 5");
    let mut noise = Noise::new(5);
    let policies: Vec<Policy> = Policy::names().map(|name| Policy::built_in(name).unwrap()).collect();
    let names = ["a", "b", "c", "d"];
    let mut full = 0;
    for _ in 0..5000 {
        let count = 1 + noise.below(4) as usize;
        let variants: Vec<VariantNow<'_>> = (0..count)
            .map(|i| VariantNow {
                name: names[i],
                weight_bytes: 1 + noise.below(5),
                seconds: 10.0 * noise.unit(),
                room: [Room::Never, Room::Later, Room::Now][noise.below(3) as usize],
            })
            .collect();
        let category = ["code", "math", "knowledge", "chat", "poems"][noise.below(5) as usize];
        let probed = Some(Probed { category, margin: noise.unit() }).filter(|_| noise.happens(0.8));
        let within = if noise.happens(0.5) { 10.0 * noise.unit() } else { f64::INFINITY };
        let request = RouteRequest { probed, variant: None, context: 1 << noise.below(16), within };
        for policy in &policies {
            let route = policy.route(&request, &variants);
            assert_eq!(route.is_some(), variants.iter().any(|v| v.room > Room::Never), "{request:?} {variants:?}");
            let Some(route) = route else { continue };
            let room = variants[route.variant].room;
            assert!(room > Room::Never, "{request:?} {variants:?} {route:?}");
            assert_eq!(route.waits, room == Room::Later, "{request:?} {variants:?} {route:?}");
            let named = |r: &Rejected| (variants[r.variant].room == Room::Never) == (r.why == "no room");
            assert!(route.rejected.iter().all(named), "{route:?}");
            full += u32::from(route.reason == RouteReason::Full);
        }
    }
    assert!(full > 1000, "{full} of the routes had to leave the policy's variant");
}
